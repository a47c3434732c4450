from __future__ import annotations

import pytest
import torch

from allocator.core.allocation import Scheme
from allocator.core.errors import ModelError, SpecError
from quant.grid import (
    LOW_WIDTHS,
    Cell,
    dequantize,
    fit,
    place,
    round_to_nearest,
)

WIDTH = pytest.mark.parametrize("bits", LOW_WIDTHS)
SCHEMES = [
    Scheme(group, symmetric)
    for group in (128, 64, 32, "channel", "tensor")
    for symmetric in (False, True)
]
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=str)


def gaussian(rows: int, columns: int, scale: float = 0.02) -> torch.Tensor:
    return (
        torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * scale
    )


def test_the_largest_and_smallest_weight_of_a_group_get_the_outer_codes() -> None:
    cell = round_to_nearest(torch.tensor([[-1.0, 0.0, 0.4, 2.0]]), Scheme(), 2)
    # (2 - -1) / 3 levels = 1 a step; zero lies one step above the smallest
    assert cell.scale.tolist() == [[1.0]]
    assert cell.zero is not None
    assert cell.zero.tolist() == [[1]]
    assert cell.codes.tolist() == [[0, 1, 1, 3]]
    assert dequantize(cell).tolist() == [[-1.0, 0.0, 0.0, 2.0]]


def test_a_grouped_range_contains_zero_even_if_no_weight_is_negative() -> None:
    cell = round_to_nearest(torch.tensor([[3.0, 2.0, 1.0]]), Scheme("channel"), 2)
    assert cell.codes.tolist() == [[3, 2, 1]]
    assert cell.zero_point.tolist() == [[0.0]]


def test_a_symmetric_grid_stores_no_zero_and_spans_both_signs_of_the_largest() -> None:
    weight = torch.tensor([[3.0, 1.0, -1.0, 0.0]])
    cell = round_to_nearest(weight, Scheme("channel", symmetric=True), 2)
    # -3 .. 3 in 3 steps of 2 around code 2: 3 / 2 rounds to 2, but code 4 does not
    # exist; 1 / 2 ties to the even 0
    assert cell.zero is None
    assert cell.scale.tolist() == [[2.0]]
    assert cell.codes.tolist() == [[3, 2, 2, 2]]
    assert dequantize(cell).tolist() == [[2.0, 0.0, 0.0, 0.0]]


def test_the_per_tensor_grid_starts_at_the_smallest_weight() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    cell = round_to_nearest(weight, Scheme("tensor"), 2)
    assert cell.codes.tolist() == [[0, 1], [2, 3]]
    assert cell.zero_point.tolist() == [[-1.0]]
    assert dequantize(cell).equal(weight)


@WIDTH
def test_the_per_tensor_grid_is_the_published_formula(bits: int) -> None:
    weight = gaussian(96, 80) + 0.01
    exact = weight.double()
    low, span = exact.min(), exact.max() - exact.min()
    codes = torch.round((2**bits - 1) * (exact - low) / span)
    published = codes / (2**bits - 1) * span + low

    cell = round_to_nearest(weight, Scheme("tensor"), bits)

    same = cell.codes == codes
    # fp16 moves a step by 2**-11 of itself and zero by 1/32 of a code at most, hence
    # the far end by an eighth of a code at 8 bits; only near-ties may change
    assert same.double().mean() > 0.9
    assert (cell.codes.double() - codes).abs().max() <= 1
    far = (2**bits * 2**-11 + 1 / 32) * float(cell.scale)
    assert (dequantize(cell) - published)[same].abs().max() <= far


@EACH_SCHEME
@pytest.mark.parametrize(
    "shape", [(3, 8), (5, 128), (4, 256), (2, 100), (1, 1)], ids=str
)
def test_there_are_as_many_scales_as_the_scheme_counts(
    scheme: Scheme, shape: tuple[int, int]
) -> None:
    cell = round_to_nearest(gaussian(*shape), scheme, 4)
    assert cell.scale.numel() == scheme.grids(*shape)
    assert cell.columns == scheme.columns(shape[1])
    assert cell.codes.shape == dequantize(cell).shape == shape


def test_rows_that_no_group_size_divides_have_one_grid_each() -> None:
    weight = gaussian(3, 100)
    whole = round_to_nearest(weight, Scheme(64), 3)
    alone = round_to_nearest(weight, Scheme("channel"), 3)
    assert whole.scale.shape == (3, 1)
    assert alone.codes.equal(whole.codes)


def test_every_group_has_a_grid_of_its_own() -> None:
    weight = gaussian(3, 96)
    whole = round_to_nearest(weight, Scheme(64), 3)
    assert whole.columns == 32
    for part in (slice(0, 32), slice(32, 64), slice(64, 96)):
        alone = round_to_nearest(weight[:, part], Scheme("channel"), 3)
        assert alone.codes.equal(whole.codes[:, part])


@EACH_SCHEME
@WIDTH
def test_no_weight_is_further_than_one_step_from_its_code(
    scheme: Scheme, bits: int
) -> None:
    weight = gaussian(16, 100)
    cell = round_to_nearest(weight, scheme, bits)
    steps = cell.scale.float().repeat_interleave(cell.columns, 1)[:, :100]
    # half a step, and half a step more at an end that rounding the zero-point cut off
    assert ((dequantize(cell) - weight).abs() <= 1.01 * steps).all()
    assert int(cell.codes.max()) < 2**bits


@EACH_SCHEME
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e-3, 1.0, 1e3])
def test_scales_neither_vanish_nor_overflow(scheme: Scheme, size: float) -> None:
    weight = gaussian(4, 64, size)
    read = dequantize(round_to_nearest(weight, scheme, 8))
    assert read.isfinite().all()
    # the smallest step of fp16 is 6e-8
    assert (read - weight).abs().max() <= max(0.04 * size, 6e-8)


@EACH_SCHEME
def test_weights_beyond_fp16_saturate(scheme: Scheme) -> None:
    read = dequantize(round_to_nearest(gaussian(4, 64, 1e9), scheme, 4))
    assert read.isfinite().all()


def test_a_step_that_fp16_rounds_down_still_reaches_the_largest_weight() -> None:
    # 255 steps of 1.4 smallest fp16 numbers; rounded to nearest they would end at 255
    weight = torch.tensor([[0.0, 255 * 1.4 * 2.0**-24]])
    read = dequantize(round_to_nearest(weight, Scheme(), 8))
    assert (read - weight).abs().max() <= 2.0**-24


@EACH_SCHEME
@WIDTH
def test_zeros_read_back_as_zeros(scheme: Scheme, bits: int) -> None:
    read = dequantize(round_to_nearest(torch.zeros(4, 64), scheme, bits))
    assert read.equal(torch.zeros(4, 64))


@WIDTH
@pytest.mark.parametrize("value", [-3.0, 0.7, 1e-3])
@pytest.mark.parametrize("group", [32, "channel", "tensor"])
def test_a_constant_matrix_reads_back_as_itself(
    bits: int, value: float, group: int | str
) -> None:
    weight = torch.full((4, 64), value)
    read = dequantize(round_to_nearest(weight, Scheme(group), bits))
    # the outer code of a range that starts at zero: off by the rounding of the step;
    # fp16 has 2**-11, and 2**-4 where the step of 1e-3 at 8 bits is below 2**-14
    assert (read / value - 1).abs().max() < (2**-10 if value != 1e-3 else 2**-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weight = gaussian(2, 64)
    weight[1, 3] = bad
    with pytest.raises(ModelError, match="infinite or not numbers"):
        fit(weight, Scheme(), 4)


@pytest.mark.parametrize("bits", [0, 1, 7, 16])
def test_a_width_without_codes_is_refused(bits: int) -> None:
    with pytest.raises(SpecError, match="not among"):
        fit(gaussian(2, 64), Scheme(), bits)


def test_the_grid_of_half_precision_weights_is_that_of_their_values() -> None:
    weight = gaussian(4, 64).bfloat16()
    one = round_to_nearest(weight, Scheme(), 4)
    other = round_to_nearest(weight.float(), Scheme(), 4)
    assert one.codes.equal(other.codes)
    assert one.scale.equal(other.scale)


def test_a_channel_scale_is_divided_out_again() -> None:
    scale = torch.tensor([2.0, 0.5]).half()
    weight = torch.tensor([[1.0, 2.0], [0.5, 6.0]])
    scaled = weight * scale.float()
    # rows 2, 1 and 1, 3 lie on the grids 0, 2/3, 4/3, 2 and 0, 1, 2, 3
    cell = place(scaled, fit(scaled, Scheme(), 2), scale)
    assert dequantize(cell)[1].tolist() == [0.5, 6.0]


def test_a_cell_says_what_it_holds() -> None:
    cell = round_to_nearest(gaussian(4, 256), Scheme(), 3)
    assert isinstance(cell, Cell)
    assert (cell.bits, cell.levels, cell.columns) == (3, 7, 128)
    assert (cell.codes.dtype, cell.scale.dtype) == (torch.uint8, torch.float16)
    assert cell.zero is not None
    assert cell.zero.dtype == torch.uint8
    assert cell.channel_scale is None
    assert cell.fallback is None


@WIDTH
@pytest.mark.parametrize("symmetric", [False, True])
def test_scales_of_a_bfloat16_checkpoint_are_rounded_before_any_code(
    symmetric: bool, bits: int
) -> None:
    scheme = Scheme(64, symmetric, "bfloat16")
    weight = gaussian(64, 256)
    cell = round_to_nearest(weight, scheme, bits)
    assert cell.scale.dtype == torch.bfloat16
    codes = cell.codes.view(64, 4, 64).float()
    read = (codes - cell.zero_point.unsqueeze(-1)) * cell.scale.float().unsqueeze(-1)
    assert dequantize(cell).equal(read.flatten(1))
    # 8 bits of precision are coarse beside 255 levels: no code may be cut off for it
    step = cell.scale.float().unsqueeze(-1)
    assert bool(((read - weight.view(64, 4, 64)).abs() <= step).all())


def test_scales_of_a_bfloat16_checkpoint_may_be_beyond_half_precision() -> None:
    weight = torch.tensor([[-1e6, 0.0, 2e6]])
    cell = round_to_nearest(weight, Scheme(scales="bfloat16"), 2)
    # 3e6 / 3 = 1e6, between the neighbours 999,424 and 1,003,520
    assert cell.scale.tolist() == [[999_424.0]]
    assert dequantize(cell).tolist() == [[-999_424.0, 0.0, 1_998_848.0]]
