from __future__ import annotations

import math

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.clipping import (
    COARSE,
    FINE,
    clip_rows,
    common_grid,
    row_errors,
    shares,
)
from quant.grid import LOW_WIDTHS, between, decode, encode, extremes, fit
from quant.hessian import InputStatistics, output_error
from tests.quant.peers_awq import activations, gaussian

BY_ROW = [Scheme(32), Scheme(32, symmetric=True), Scheme("channel")]
EACH_SCHEME = pytest.mark.parametrize("scheme", BY_ROW, ids=str)
EACH_WIDTH = pytest.mark.parametrize("bits", LOW_WIDTHS)
# three groups of 32
FEATURES = 96


def hessian(features: int = FEATURES) -> torch.Tensor:
    inputs = InputStatistics.empty(features)
    inputs.add(activations(features, 1.0))
    return inputs.hessian


def scaled_rows(rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights times a scale, and the scale."""
    scale = torch.exp(0.5 * gaussian(1, FEATURES, seed=8)[0])
    return gaussian(rows, FEATURES, seed=5) ** 3 * scale, scale


@EACH_WIDTH
def test_what_is_left_of_a_range_starts_with_all_and_ends_above_half(bits: int) -> None:
    found = shares(bits)
    assert found[0] == (1.0, 1.0)
    assert len(set(found)) == FINE + COARSE
    assert all(0.5 <= share <= 1 for pair in found for share in pair)


def test_fine_cuts_reach_two_and_a_half_steps_of_the_grid() -> None:
    # of 15 steps at 4 bits, of 255 at 8; at 2 bits that would leave a sixth of 3
    assert shares(4)[FINE - 1][0] == pytest.approx(12.5 / 15)
    assert shares(8)[FINE - 1][0] == pytest.approx(252.5 / 255)
    assert shares(2)[FINE - 1][0] == 0.5


@EACH_SCHEME
@EACH_WIDTH
def test_the_errors_are_those_of_the_grids_and_none_above_rounding(
    scheme: Scheme, bits: int
) -> None:
    scaled, scale = scaled_rows()
    grid, errors = clip_rows(scaled, scale, hessian(), scheme, bits)
    measured = row_errors(scaled, scale, hessian(), grid)
    torch.testing.assert_close(errors, measured, rtol=1e-3, atol=1e-6)
    plain = row_errors(scaled, scale, hessian(), fit(scaled, scheme, bits))
    assert (measured <= 1.0001 * plain + 1e-6).all()
    assert measured.sum() < 0.95 * plain.sum()


@EACH_SCHEME
def test_grids_are_stored_like_any_others(scheme: Scheme) -> None:
    scaled, scale = scaled_rows()
    grid, _ = clip_rows(scaled, scale, hessian(), scheme, 3)
    plain = fit(scaled, scheme, 3)
    assert (grid.columns, grid.bits) == (plain.columns, plain.bits)
    assert grid.scale.shape == plain.scale.shape
    assert grid.scale.dtype == plain.scale.dtype
    assert (grid.zero is None) == scheme.symmetric
    assert grid.zero is None or grid.zero.dtype == torch.uint8
    # never more than half is cut off
    assert (grid.scale >= 0.499 * plain.scale).all()


@EACH_SCHEME
def test_a_row_is_clipped_whoever_its_neighbours_are(scheme: Scheme) -> None:
    # in single precision the size of a product decides which of two equals wins
    scaled, scale = (part.double() for part in scaled_rows())
    matrix = hessian().double()
    together, _ = clip_rows(scaled, scale, matrix, scheme, 4)
    alone, _ = clip_rows(scaled[3:5], scale, matrix, scheme, 4)
    assert together.scale[3:5].equal(alone.scale)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 4])
def test_a_group_that_meets_no_other_gets_the_best_of_all_tries(
    symmetric: bool, bits: int
) -> None:
    scheme, columns = Scheme(32, symmetric), 32
    alone = hessian(columns)
    both = torch.block_diag(alone, alone)
    weight, ones = gaussian(6, 64, seed=5) ** 3, torch.ones(64)
    _, errors = clip_rows(weight, ones, both, scheme, bits)
    for row in range(6):
        best = 0.0
        for start in (0, columns):
            group = weight[row : row + 1, start : start + columns]
            low, high = extremes(group, scheme)
            tried = [
                between(low * lower, high * upper, scheme, bits, columns)
                for lower, upper in shares(bits)
            ]
            costs = [
                output_error(decode(encode(group, one), one) - group, alone)
                for one in tried
            ]
            best += float(torch.stack(costs).min())
        assert float(errors[row]) == pytest.approx(best, rel=1e-3)


def test_groups_are_clipped_with_the_errors_of_the_others_in_view() -> None:
    scheme, columns, rows = Scheme(32), 32, 64
    weight, ones = gaussian(rows, FEATURES, seed=5), torch.ones(FEATURES)
    matrix = hessian()
    _, errors = clip_rows(weight, ones, matrix, scheme, 3)
    parts = []
    for start in range(0, FEATURES, columns):
        here = slice(start, start + columns)
        grid, _ = clip_rows(weight[:, here], ones[here], matrix[here, here], scheme, 3)
        parts.append(decode(encode(weight[:, here], grid), grid))
    blind = output_error(torch.cat(parts, 1) - weight, matrix)
    assert errors.sum() < 0.97 * blind.sum()


def test_an_outlier_that_meets_a_silent_input_is_cut_off() -> None:
    weight = torch.full((1, 32), 0.5)
    weight[0, ::2] = -0.5
    weight[0, 0] = 3.0
    silent = torch.eye(32)
    silent[0, 0] = 0
    grid, _ = clip_rows(weight, torch.ones(32), silent, Scheme(32), 3)
    # the range -0.5 .. 3 in 7 steps of 0.5 would hold everything; nothing is gained
    assert float(grid.scale) == 0.5
    weight[0, 1:] *= 0.9
    grid, errors = clip_rows(weight, torch.ones(32), silent, Scheme(32), 3)
    assert float(grid.scale) < 0.49
    assert float(errors) < float(
        row_errors(weight, torch.ones(32), silent, fit(weight, Scheme(32), 3))
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_ranges_beside_zero_keep_containing_it(sign: int) -> None:
    weight = sign * (gaussian(4, 32).abs() + 1)
    for scheme in (Scheme(32), Scheme("channel")):
        grid, _ = clip_rows(weight, torch.ones(32), hessian(32), scheme, 4)
        assert grid.zero is not None
        assert (grid.zero == (0 if sign > 0 else 15)).all()


def test_inputs_that_say_nothing_leave_ranges_whole() -> None:
    weight = gaussian(4, 64)
    grid, errors = clip_rows(weight, torch.ones(64), torch.zeros(64, 64), Scheme(32), 4)
    assert grid.scale.equal(fit(weight, Scheme(32), 4).scale)
    assert errors.tolist() == [0.0] * 4


@pytest.mark.parametrize("symmetric", [False, True])
@EACH_WIDTH
def test_a_common_grid_is_the_best_try_for_the_rows_that_judge(
    symmetric: bool, bits: int
) -> None:
    scheme = Scheme("tensor", symmetric)
    scaled, scale = scaled_rows(24)
    weight = scaled / scale
    sample = weight[:6]
    edges = torch.stack((weight.amin(0), weight.amax(0)))
    grid, error = common_grid((sample, edges), scale, hessian(), scheme, bits)
    low, high = extremes(edges * scale, scheme)
    tried = [
        between(low * lower, high * upper, scheme, bits, FEATURES)
        for lower, upper in shares(bits)
    ]
    costs = [
        float(row_errors(sample * scale, scale, hessian(), one).sum()) for one in tried
    ]
    assert error == pytest.approx(min(costs))
    assert grid.scale.equal(tried[costs.index(min(costs))].scale)


def test_a_common_range_beside_zero_only_moves_its_far_end() -> None:
    # asymmetric per tensor the range need not contain zero
    weight = gaussian(8, 32).abs() + 1
    edges = torch.stack((weight.amin(0), weight.amax(0)))
    grid, error = common_grid(
        (weight, edges), torch.ones(32), hessian(32), Scheme("tensor"), 2
    )
    least = -float(grid.zero_point) * float(grid.scale)
    assert least == pytest.approx(float(weight.min()), rel=2e-3)
    assert math.isfinite(error)
