from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.cuda import pinned_bytes
from quant.grid import dequantize, round_to_nearest
from quant.kept import Kept, Memory, memories_of
from quant.lru_cache import LRUCache
from quant.packed import PackedCell

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (8, 32)
# 8 x 32 codes of 4 bits, then 8 scales of two bytes and 8 zero-points of one
BYTES = 128 + 16 + 8


def packed_cell(seed: int) -> PackedCell:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(SHAPE, generator=random)
    return PackedCell.of(round_to_nearest(weight, Scheme(32), 4))


class Read:
    """Reads of cells, by their seeds."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, seed: int) -> Callable[[], PackedCell]:
        def read() -> PackedCell:
            self.seeds.append(seed)
            return packed_cell(seed)

        return read


def put(held: Kept, read: Read, seeds: list[int]) -> None:
    """Put cells in place, and compare what is there."""
    out = torch.empty(SHAPE)
    for seed in seeds:
        assert held.put(seed, read(seed), out) == BYTES
        assert torch.equal(out, dequantize(packed_cell(seed).cell()))


def test_what_came_first_stays_and_the_rest_is_read_each_time() -> None:
    device = Memory(2 * BYTES, torch.clone)
    host = Memory(BYTES + 1, torch.clone)
    held, read = Kept([device, host]), Read()
    put(held, read, [0, 1, 2, 3, 0, 1, 2, 3, 3])
    assert read.seeds == [0, 1, 2, 3, 3, 3]
    assert (device.held, host.held) == (2 * BYTES, BYTES)


def test_a_smaller_cell_takes_the_room_that_a_larger_one_left() -> None:
    small = replace(packed_cell(0), codes=packed_cell(0).codes[:64], shape=(4, 32))
    memory = Memory(BYTES + small.nbytes, torch.clone)
    assert memory.take(packed_cell(1)) is not None
    assert memory.take(packed_cell(2)) is None
    assert memory.take(small) is not None
    assert memory.held == memory.limit


def test_a_memory_that_gives_nothing_is_full() -> None:
    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    device, host = Memory(9 * BYTES, refuse), Memory(BYTES, torch.clone)
    held, read = Kept([device, host]), Read()
    put(held, read, [0, 0])
    assert read.seeds == [0]
    assert (device.limit, host.held) == (0, BYTES)


def test_room_counts_as_the_memory_takes_it() -> None:
    # 128, 16 and 8 bytes are powers of two, and 100 would take 128
    assert [pinned_bytes(size) for size in (0, 1, 100, 128, 129)] == [
        0,
        1,
        128,
        128,
        256,
    ]
    memory = Memory(2 * BYTES - 1, torch.clone, lambda size: 2 * size)
    assert memory.take(packed_cell(0)) is None


def test_a_cell_is_moved_once_and_decoded_where_it_lies() -> None:
    moved = []

    def move(part: torch.Tensor) -> torch.Tensor:
        moved.append(part.nbytes)
        return part.clone()

    put(Kept([Memory(BYTES, move)]), Read(), [0, 0, 0])
    assert sorted(moved) == [8, 16, 128]


def test_decoded_weights_are_those_of_the_type_that_is_asked_for() -> None:
    held, read = Kept([], decoded=LRUCache(10**6)), Read()
    exact = dequantize(packed_cell(0).cell())
    # a float16 weight is rounded, and must not be taken for the float32 one
    for dtype in (torch.float16, torch.float32, torch.float16, torch.float32):
        out = torch.empty(SHAPE, dtype=dtype)
        held.put(0, read(0), out)
        assert torch.equal(out, exact.to(dtype))
        # what is kept is no view of what may change
        out.zero_()
    assert read.seeds == [0, 0]


@pytest.mark.gpu
def test_a_device_keeps_cells_and_reads_pinned_ones() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda", torch.cuda.current_device())
    near, far = memories_of(device)
    assert 0 < near.limit < torch.cuda.mem_get_info(device)[1]
    near.limit = BYTES
    held, read = Kept([near, far]), Read()
    for seed in (0, 1, 2, 0, 1, 2):
        out = torch.empty(SHAPE, device=device, dtype=torch.float16)
        held.put(seed, read(seed), out)
        assert torch.equal(
            out.cpu(), dequantize(packed_cell(seed).cell()).to(torch.float16)
        )
    assert read.seeds == [0, 1, 2]
    assert [held.cells[seed].codes.is_cuda for seed in range(3)] == [True, False, False]
    assert held.cells[2].codes.is_pinned()
