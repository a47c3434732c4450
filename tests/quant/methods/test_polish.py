from __future__ import annotations

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.grid import Cell, dequantize, round_to_nearest
from quant.hessian import InputStatistics, inverse_factor, output_error
from quant.methods._polish import Placed, polish, polished, pull_of

SCHEMES = [Scheme(32), Scheme(32, symmetric=True), Scheme("channel")]
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=str)
FEATURES = 192


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def hessian_of(features: int = FEATURES, tokens: int = 900) -> torch.Tensor:
    inputs = InputStatistics.empty(features)
    mixing = gaussian(features, features, seed=1) / 8
    inputs.add(gaussian(tokens, features, seed=2) @ mixing)
    return inputs.hessian


def placed_of(cell: Cell) -> Placed:
    """A cell, transposed, in float64."""
    zero = cell.zero_point.double()
    steps = cell.codes.double() - zero.repeat_interleave(cell.columns, 1)
    levels = torch.full((len(zero),), float(cell.levels), dtype=torch.float64)
    return Placed(steps.T.clone(), cell.scale.double().T.clone(), zero.T, levels)


def by_hand(
    placed: Placed, weight: torch.Tensor, hessian: torch.Tensor, shared: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, with the gradient of the whole error taken anew at every step.

    Returns:
        Steps and scales, as `Placed` has them.
    """
    steps, scale = placed.steps.clone(), placed.scale.clone()
    for at in range(len(steps)):
        group = at // shared
        here = slice(group * shared, (group + 1) * shared)

        def gradient() -> torch.Tensor:
            read = steps * scale.repeat_interleave(shared, 0)
            return hessian @ (read - weight.T)

        if at % shared == 0:
            slope = (steps[here] * gradient()[here]).sum(0)
            curve = (steps[here] * (hessian[here, here] @ steps[here])).sum(0)
            best = scale[group] - slope / curve
            scale[group] = best.clamp(2.0**-24).half().double()
        wanted = steps[at] - gradient()[at] / hessian[at, at] / scale[group]
        least, most = -placed.zero[group], placed.levels - placed.zero[group]
        steps[at] = torch.minimum(torch.maximum(wanted.round(), least), most)
    return steps, scale


@EACH_SCHEME
@pytest.mark.parametrize("bits", [2, 4])
def test_each_number_goes_where_the_error_is_least_while_the_others_stand(
    scheme: Scheme, bits: int
) -> None:
    weight, hessian = gaussian(20, FEATURES), hessian_of().double()
    cell = round_to_nearest(weight, scheme, bits)
    placed, ones = placed_of(cell), torch.ones(FEATURES, dtype=torch.float64)
    steps, scale = by_hand(placed, weight.double(), hessian, cell.columns)
    pull = hessian @ (weight.double() - dequantize(cell)).T
    polish(placed, pull, hessian, ones, scheme)
    assert placed.steps.equal(steps)
    assert placed.scale.equal(scale)


@EACH_SCHEME
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_row_gets_worse_and_rounding_gets_much_better(
    scheme: Scheme, bits: int
) -> None:
    # more inputs than tokens: the Hessian is singular
    weight, hessian = gaussian(20, FEATURES), hessian_of(tokens=100)
    scale = torch.exp(0.3 * gaussian(1, FEATURES, seed=3))[0]
    cell = round_to_nearest(weight * scale, scheme, bits)
    better = polished(cell, weight, scale, hessian, scheme)
    before, after = (
        output_error(dequantize(each) / scale - weight, hessian)
        for each in (cell, better)
    )
    assert (after <= before * 1.0001).all()
    assert after.sum() < 0.6 * before.sum()
    assert int(better.codes.max()) <= cell.levels


def test_a_scale_alone_is_the_least_squares_fit() -> None:
    weight = 1.25 * torch.tensor([[-2.0, -1.0, 0.0, 1.0]])
    cell = Cell(
        codes=torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8),
        scale=torch.ones(1, 1).half(),
        zero=torch.tensor([[2]], dtype=torch.uint8),
        columns=4,
        bits=2,
    )
    found = polished(cell, weight, torch.ones(4), torch.eye(4), Scheme(32))
    assert found.scale.item() == 1.25
    assert found.codes.equal(cell.codes)


def test_dead_inputs_do_not_move_a_scale_and_are_rounded_to_nearest() -> None:
    weight = torch.tensor([[-2.5, -1.25, 0.0, 1.25, 9.0]])
    hessian = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
    cell = Cell(
        codes=torch.tensor([[0, 1, 2, 3, 0]], dtype=torch.uint8),
        scale=torch.ones(1, 1).half(),
        zero=torch.tensor([[2]], dtype=torch.uint8),
        columns=5,
        bits=2,
    )
    found = polished(cell, weight, torch.ones(5), hessian, Scheme("channel"))
    assert found.scale.item() == 1.25
    assert found.codes.tolist() == [[0, 1, 2, 3, 3]]


def test_the_errors_of_the_loop_pull_as_the_hessian_says() -> None:
    hessian, errors = hessian_of().double(), gaussian(FEATURES, 6, seed=5).double()
    factor = inverse_factor(hessian)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(FEATURES)
    # the weights are off by -U^T E
    wanted = damped @ (factor.T @ errors)
    torch.testing.assert_close(pull_of(errors.clone(), factor), wanted)


def test_the_pull_hangs_on_the_number_of_threads_by_rounding_at_most() -> None:
    # with AVX2 alone even short products of 500 columns differ in their last bits
    factor, errors = inverse_factor(hessian_of(300)), gaussian(300, 500, seed=6)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(pull_of(errors.clone(), factor))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-4)
