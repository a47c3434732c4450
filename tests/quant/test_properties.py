"""What holds for every matrix, width and scheme, not only for those we thought of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allocator.core.allocation import Scheme
from allocator.core.errors import ModelError
from quant.grid import LOW_WIDTHS, decode, dequantize, encode, fit, round_to_nearest
from quant.packing import pack, packed_bytes, unpack
from tests.quant.drawn import (
    LARGEST_HALF,
    check_codes,
    examples,
    matrices,
    per_weight,
    reach,
    schemes,
    widths,
)


@given(matrices(), schemes, widths)
@examples(300)
def test_codes_are_in_range_and_read_back_finite(
    weight: torch.Tensor, scheme: Scheme, bits: int
) -> None:
    check_codes(round_to_nearest(weight, scheme, bits), weight, scheme)


@given(matrices(), schemes, widths)
@examples(300)
def test_inside_its_range_a_grid_is_off_by_half_a_step_and_outside_it_takes_the_end(
    weight: torch.Tensor, scheme: Scheme, bits: int
) -> None:
    grid = fit(weight, scheme, bits)
    step = per_weight(grid, grid.scale, weight)
    zero = per_weight(grid, grid.zero_point, weight)
    inside = weight.double().clamp(-zero * step, (grid.levels - zero) * step)
    read = decode(encode(weight, grid), grid).double()
    # float32 has 2**-24 of the largest number met, which is that of steps from zero
    half = 0.5 + 2**-22 * (zero.abs() + grid.levels)
    assert bool(((read - inside).abs() <= half * step).all())


@given(matrices(), schemes, widths)
@examples(300)
def test_a_fitted_range_leaves_no_weight_out_by_more_than_a_step(
    weight: torch.Tensor, scheme: Scheme, bits: int
) -> None:
    grid = fit(weight, scheme, bits)
    step = per_weight(grid, grid.scale, weight)
    zero = per_weight(grid, grid.zero_point, weight)
    allowed = per_weight(grid, reach(grid, scheme), weight)
    low, high = -zero * step, (grid.levels - zero) * step
    fits = step < LARGEST_HALF
    assert bool((low - weight <= allowed)[fits].all())
    assert bool((weight - high <= allowed)[fits].all())


@given(matrices(), schemes, widths)
@examples(300)
def test_what_is_on_the_grid_stays_where_it_is(
    weight: torch.Tensor, scheme: Scheme, bits: int
) -> None:
    cell = round_to_nearest(weight, scheme, bits)
    read = decode(cell.codes, cell)
    assert encode(read, cell).equal(cell.codes)


@given(matrices(), schemes, widths)
@examples(150)
def test_each_group_of_a_row_is_rounded_as_if_it_were_alone(
    weight: torch.Tensor, scheme: Scheme, bits: int
) -> None:
    if scheme.group_size == "tensor":
        return
    whole = round_to_nearest(weight, scheme, bits)
    read = dequantize(whole)
    for start in range(0, weight.shape[1], whole.columns):
        here = slice(start, start + whole.columns)
        alone = Scheme("channel", scheme.symmetric)
        group = round_to_nearest(weight[-1:, here], alone, bits)
        assert dequantize(group).equal(read[-1:, here])


@given(matrices(), schemes)
@examples(200)
def test_more_bits_cost_at_most_a_step_of_theirs(
    weight: torch.Tensor, scheme: Scheme
) -> None:
    worst = math.inf
    for bits in LOW_WIDTHS:
        cell = round_to_nearest(weight, scheme, bits)
        error = float((dequantize(cell).double() - weight).abs().max())
        # weights that lie on a coarse grid need not lie on a finer one
        assert error <= worst + float(reach(cell, scheme).max())
        worst = error


def test_weights_beyond_the_reach_of_a_real_zero_point_read_back_finite() -> None:
    weight, scheme = torch.full((1, 1), 1e10), Scheme("tensor")
    check_codes(round_to_nearest(weight, scheme, 2), weight, scheme)


@given(matrices(), schemes, widths, st.sampled_from([math.nan, math.inf, -math.inf]))
@examples(150)
def test_weights_that_are_not_finite_have_no_grid(
    weight: torch.Tensor, scheme: Scheme, bits: int, bad: float
) -> None:
    weight.view(-1)[weight.numel() // 2] = bad
    with pytest.raises(ModelError):
        fit(weight, scheme, bits)


@given(
    st.lists(st.integers(0, 2**8 - 1), max_size=150), widths, st.sampled_from([1, 2, 3])
)
@examples(300)
def test_packed_codes_take_exactly_their_bits_and_come_back(
    values: list[int], bits: int, rows: int
) -> None:
    whole = len(values) // rows * rows
    codes = torch.tensor(values[:whole], dtype=torch.uint8) & (2**bits - 1)
    codes = codes.view(rows, whole // rows)
    packed = pack(codes, bits)
    assert packed.nbytes == packed_bytes(whole, bits) == math.ceil(whole * bits / 8)
    assert unpack(packed, bits, codes.shape).equal(codes)
    # as one number: the first code in the lowest bits
    number = sum(code << bits * at for at, code in enumerate(codes.flatten().tolist()))
    assert int.from_bytes(bytes(packed.tolist()), "little") == number


@given(matrices(), schemes, widths)
@examples(150)
def test_a_cell_survives_packing(
    weight: torch.Tensor, scheme: Scheme, bits: int
) -> None:
    cell = round_to_nearest(weight, scheme, bits)
    assert unpack(pack(cell.codes, bits), bits, weight.shape).equal(cell.codes)
