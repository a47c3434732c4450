from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from allocator.bench import batching
from allocator.bench.batching import MOST, SHARE, Room, batched
from allocator.bench.devices import total_memory
from allocator.core import memory

# 10 bytes a token and 50 a sample: 10 samples of 15 tokens, 20 of 5
ROOM = Room(2000, 10, 50)


def test_samples_fill_what_a_batch_may_take() -> None:
    assert [ROOM.most(tokens) for tokens in (15, 5, 195)] == [10, 20, 1]
    # what does not fit is tried alone
    assert ROOM.most(1000) == 1
    assert Room(10**12, 1, 0).most(1) == MOST


def test_where_more_gains_nothing_there_is_no_more() -> None:
    room = replace(ROOM, bytes=10**9, tokens=60, samples=4)
    assert [room.most(tokens) for tokens in (5, 10, 30)] == [12, 6, 4]


def test_the_longest_come_first_and_those_of_a_picture_together() -> None:
    lengths = [3, 15, 4, 5, 15, 2]
    room = Room(40, 1, 0)
    found = batched(lengths, "abacbb", room)
    # 2 of 15 tokens fit, and b has 3: the third goes on with what comes next
    assert found == [[1, 4], [5, 3, 2, 0]]
    # however short what is left of it
    found = batched([20, 2, 10, 5, 5], "bbacd", Room(29, 1, 0))
    assert found == [[0], [1, 2], [3, 4]]


def test_a_picture_that_fits_is_never_parted() -> None:
    pictures = [n // 5 for n in range(100)]
    found = batched([10] * 100, pictures, Room(120, 1, 0))
    assert all(len({pictures[n] for n in batch}) * 5 == len(batch) for batch in found)
    assert sorted(n for batch in found for n in batch) == list(range(100))


def test_batches_are_about_equally_large() -> None:
    assert [len(b) for b in batched([1] * 101, range(101), Room(100, 1, 0))] == [51, 50]


def test_one_order_whatever_the_order_of_equals() -> None:
    assert batched([1, 1, 1], "abc", Room(2, 1, 0)) == [[0, 1], [2]]


def model_of(dtype: torch.dtype = torch.float32) -> Any:
    """Two layers of width 8, 2 of 4 heads with keys, on a CPU of so many bytes."""
    text = SimpleNamespace(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
    )
    tower = SimpleNamespace(hidden_size=4, intermediate_size=8, patch_size=2)
    module = torch.nn.Linear(1, 1).to(dtype)
    module.config = SimpleNamespace(  # type: ignore[assignment]
        get_text_config=lambda: text, vision_config=tower
    )
    return SimpleNamespace(module=module)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.float16, 2)])
def test_the_room_follows_from_sizes_and_the_whole_memory(
    dtype: torch.dtype, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "total_memory", lambda _: 10**6)
    # 4 patches of 2 x 2 pixels
    state = {"pixel_values": torch.zeros(1, 3, 4, 4)}
    room = Room.of(model_of(dtype), state, 8)
    assert room.bytes == SHARE * 10**6
    # keys and values of 2 layers; 8 widths and 3 inner widths of a block
    assert room.token == size * (2 * 2 * 2 * 2 + 8 * 8 + 3 * 16)
    # a block of the tower; two times 8 rows of probabilities
    assert room.sample == size * 4 * (8 * 4 + 3 * 8) + 2 * 4 * 8 * 100


def test_a_container_has_the_memory_that_it_may_take(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text("max\n")
    whole = total_memory("cpu")
    assert whole >= 2**20
    (tmp_path / "memory.max").write_text(f"{whole // 3}\n")
    assert total_memory("cpu") == whole // 3
