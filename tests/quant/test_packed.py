from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from allocator.core.allocation import Scheme
from quant import packing
from quant.grid import LOW_WIDTHS, Cell, dequantize, round_to_nearest
from quant.packed import PackedCell

WIDTH = pytest.mark.parametrize("bits", LOW_WIDTHS)
SCHEMES = {
    "asymmetric": Scheme(32),
    "symmetric": Scheme(64, symmetric=True),
    "channel": Scheme("channel"),
    "symmetric channel": Scheme("channel", symmetric=True),
    "bfloat16": Scheme(32, scales="bfloat16"),
    "tensor": Scheme("tensor"),
    "symmetric tensor": Scheme("tensor", symmetric=True),
}


def random_cell(bits: int, scheme: Scheme, rows: int, columns: int) -> Cell:
    random = torch.Generator().manual_seed(bits)
    weight = torch.randn(rows, columns, generator=random)
    # zero-points at both ends too
    weight[0].abs_()
    weight[-1].abs_().neg_()
    return round_to_nearest(weight, scheme, bits)


def scaled(cell: Cell) -> Cell:
    random = torch.Generator().manual_seed(3)
    by = torch.rand(cell.codes.shape[1], generator=random).add_(0.3).half()
    return replace(cell, channel_scale=by)


def written(cell: Cell, out: torch.Tensor) -> torch.Tensor:
    PackedCell.of(cell).write_(out)
    return out


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether all numbers are the same, 0 and -0 told apart."""
    return one.dtype == other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


def test_codes_are_read_into_a_weight_by_hand() -> None:
    cell = PackedCell(
        # codes 0 1 2 3 and 3 3 0 1, the first in the lowest bits: 0xe4 and 0x4f
        codes=torch.tensor([0xE4, 0x4F], dtype=torch.uint8),
        scale=torch.tensor([[0.5, 2.0], [1.0, 0.25]]).half(),
        zero=torch.tensor([[1, 2], [3, 0]], dtype=torch.uint8),
        columns=2,
        bits=2,
        shape=(2, 4),
        channel_scale=torch.tensor([1.0, 2.0, 0.5, 1.0]).half(),
    )
    out = torch.full((2, 4), 9.0)
    cell.write_(out)
    # (code - zero) * scale, each column then divided by its own
    assert out.tolist() == [[-0.5, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.25]]
    # 2 of codes, 4 scales and 4 more of a channel in two bytes each, 4 zero-points
    assert cell.nbytes == 2 + 8 + 8 + 4


@WIDTH
@pytest.mark.parametrize("name", SCHEMES)
def test_what_is_written_is_what_dequantizing_gives_bit_by_bit(
    bits: int, name: str
) -> None:
    cell = random_cell(bits, SCHEMES[name], 33, 192)
    for each in (cell, scaled(cell)):
        assert same_bits(written(each, torch.full((33, 192), 7.0)), dequantize(each))


@WIDTH
@pytest.mark.parametrize("octets", [1, 5, 7, 100])
@pytest.mark.parametrize("columns", [3, 8, 60])
def test_it_does_not_depend_on_how_much_is_read_at_a_time(
    bits: int, octets: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "CPU_OCTETS", octets)
    # rows of 3 and 60 codes do not end with a byte
    cell = scaled(random_cell(bits, Scheme("channel"), 23, columns))
    assert same_bits(written(cell, torch.zeros(23, columns)), dequantize(cell))


@WIDTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_rounded_from_float32(bits: int, dtype: torch.dtype) -> None:
    cell = random_cell(bits, Scheme(32), 17, 96)
    found = written(cell, torch.zeros(17, 96, dtype=dtype))
    assert same_bits(found, dequantize(cell).to(dtype))


def test_a_weight_may_lie_in_memory_in_any_way() -> None:
    cell = random_cell(4, Scheme(32), 16, 64)
    assert torch.equal(written(cell, torch.zeros(64, 16).T), dequantize(cell))
    assert torch.equal(written(cell, torch.zeros(16, 128)[:, ::2]), dequantize(cell))


@WIDTH
def test_every_code_at_every_zero_point_comes_out_exactly(bits: int) -> None:
    levels = 2**bits
    codes = torch.arange(levels, dtype=torch.uint8).repeat(levels, 1)
    zero = torch.arange(levels, dtype=torch.uint8).unsqueeze(1)
    scale = torch.full((levels, 1), 0.1).half()
    cell = Cell(codes=codes, scale=scale, zero=zero, columns=levels, bits=bits)
    # at most 8 bits times 11 are 19 of the 24 that float32 keeps
    step = float(scale[0, 0])
    wanted = [[(code - at) * step for code in range(levels)] for at in range(levels)]
    assert written(cell, torch.zeros(levels, levels)).tolist() == wanted


@WIDTH
def test_a_packed_cell_unpacks_to_what_it_was(bits: int) -> None:
    cell = replace(scaled(random_cell(bits, Scheme(32), 9, 32)), fallback="uniform")
    found = PackedCell.of(cell).moved(torch.clone).cell()
    for name in ("codes", "scale", "zero", "channel_scale"):
        assert same_bits(getattr(found, name), getattr(cell, name))
    for name in ("columns", "bits", "fallback"):
        assert getattr(found, name) == getattr(cell, name)


@WIDTH
def test_parts_may_begin_anywhere_in_a_file(bits: int) -> None:
    packed = PackedCell.of(random_cell(bits, Scheme(32), 16, 32))
    for offset in (1, 2, 3, 5):
        shifted = torch.zeros(offset + len(packed.codes), dtype=torch.uint8)
        shifted[offset:] = packed.codes
        out = torch.zeros(16, 32)
        replace(packed, codes=shifted[offset:]).write_(out)
        assert torch.equal(out, dequantize(packed.cell()))


@WIDTH
@pytest.mark.gpu
def test_an_accelerator_writes_the_same_weights(bits: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cell = scaled(random_cell(bits, Scheme(32), 777, 320))
    packed = PackedCell.of(cell).moved(lambda part: part.cuda())
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        out = torch.zeros(777, 320, dtype=dtype, device="cuda")
        packed.write_(out)
        assert same_bits(out.cpu(), dequantize(cell).to(dtype))
