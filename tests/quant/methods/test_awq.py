from __future__ import annotations

import math

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, Cell, dequantize, fit, place, round_to_nearest
from quant.hessian import InputStatistics, output_error
from quant.methods.awq import ALPHAS, PLUGIN, SHRINKS, candidate

SCHEMES = [Scheme(), Scheme(32, symmetric=True), Scheme("channel"), Scheme("tensor")]
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=str)


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def activations(features: int, tokens: int = 400) -> torch.Tensor:
    """Inputs of which a few are much louder than the rest."""
    mixing = gaussian(features, features, seed=1) / math.sqrt(features) + torch.eye(
        features
    )
    loud = torch.exp(1.5 * gaussian(1, features, seed=2))
    return gaussian(tokens, features, seed=3) @ mixing * loud


def statistics(x: torch.Tensor) -> InputStatistics:
    inputs = InputStatistics.empty(x.shape[1])
    inputs.add(x)
    return inputs


def error_of(cell: Cell, weight: torch.Tensor, inputs: InputStatistics) -> float:
    return float(output_error(dequantize(cell) - weight, inputs.hessian).sum())


def test_the_search_tries_what_autoawq_tries() -> None:
    assert sorted(ALPHAS) == [step / 20 for step in range(20)]
    assert ALPHAS[0] == 0
    # all of the range, then 5 % less each time, and never half of it
    assert [round(shrink, 2) for shrink in SHRINKS] == [
        1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55,
    ]  # fmt: skip


def test_a_candidate_balances_its_extremes() -> None:
    scale = candidate(torch.tensor([16.0, 4.0, 1.0]), 0.5).float()
    # square roots 4, 2, 1, divided by sqrt(4 * 1)
    assert scale.tolist() == [2.0, 1.0, 0.5]


def test_a_dead_input_is_scaled_like_the_quietest_live_one() -> None:
    scale = candidate(torch.tensor([4.0, 0.0, 1.0]), 0.5).float()
    assert scale[1] == scale[2]
    assert candidate(torch.zeros(3), 0.5).tolist() == [1.0, 1.0, 1.0]


def test_a_candidate_of_absurd_statistics_stays_within_fp16() -> None:
    scale = candidate(torch.tensor([1e-38, 1.0, 1e38]), 0.95)
    assert scale.isfinite().all()
    assert (scale > 0).all()


@EACH_SCHEME
def test_siblings_share_the_scale_that_serves_all_of_them(scheme: Scheme) -> None:
    inputs = statistics(activations(128))
    weights = [gaussian(16, 128), 3 * gaussian(8, 128, seed=7)]
    cells = PLUGIN.quantize(weights, inputs, scheme, [3], foldable=True)[3]

    def cost(alpha: float) -> float:
        scale = candidate(inputs.mean_abs, alpha)
        scaled = [weight * scale.float() for weight in weights]
        tried = [place(one, fit(one, scheme, 3), scale) for one in scaled]
        return sum(map(error_of, tried, weights, [inputs] * 2))

    best = min(ALPHAS, key=cost)
    assert best > 0
    for cell in cells:
        assert cell.channel_scale is not None
        assert cell.channel_scale.equal(candidate(inputs.mean_abs, best))


@EACH_SCHEME
@pytest.mark.parametrize("foldable", [False, True])
@pytest.mark.parametrize("features", [8, 64, 100])
def test_no_set_of_siblings_is_worse_than_plain_rounding(
    scheme: Scheme, foldable: bool, features: int
) -> None:
    inputs = statistics(activations(features, tokens=30))
    weights = [gaussian(8, features), gaussian(12, features, seed=7)]
    found = PLUGIN.quantize(weights, inputs, scheme, [2, 3, 6], foldable=foldable)
    for bits, cells in found.items():
        plain = [round_to_nearest(weight, scheme, bits) for weight in weights]
        ours = sum(map(error_of, cells, weights, [inputs] * 2))
        assert ours <= 1.0001 * sum(map(error_of, plain, weights, [inputs] * 2))


def test_without_a_module_to_fold_into_there_is_no_scale() -> None:
    inputs, weight = statistics(activations(128)), gaussian(16, 128)
    for (cell,) in PLUGIN.quantize([weight], inputs, Scheme(), LOW_WIDTHS).values():
        assert cell.channel_scale is None


def test_on_uneven_inputs_scaling_and_clipping_each_help() -> None:
    inputs, weight = statistics(activations(256)), gaussian(64, 256)
    plain = error_of(round_to_nearest(weight, Scheme(), 3), weight, inputs)
    (clipped,) = PLUGIN.quantize([weight], inputs, Scheme(), [3])[3]
    (both,) = PLUGIN.quantize([weight], inputs, Scheme(), [3], foldable=True)[3]
    assert error_of(clipped, weight, inputs) < 0.95 * plain
    assert error_of(both, weight, inputs) < 0.6 * plain


def test_clipping_minimizes_the_error_of_each_group_on_its_own() -> None:
    # inputs of two groups that have nothing to do with each other, so that a group's
    # own error is the whole error and the best bound can be found by trying all
    inputs = InputStatistics.empty(64)
    x = activations(32)
    for part in (slice(0, 32), slice(32, 64)):
        inputs.hessian[part, part] = statistics(x).hessian
    weight = gaussian(4, 64).abs() ** 3 * gaussian(4, 64, seed=5).sign()
    (cell,) = PLUGIN.quantize([weight], inputs, Scheme(32, symmetric=True), [3])[3]
    for row in range(4):
        for part in (slice(0, 32), slice(32, 64)):
            group = weight[row : row + 1, part]
            errors = []
            for shrink in SHRINKS:
                bound = float(group.abs().max()) * shrink
                grid = fit(group.clamp(-bound, bound), Scheme(32, symmetric=True), 3)
                delta = dequantize(place(group, grid)) - group
                errors.append(float(output_error(delta, statistics(x).hessian)))
            delta = dequantize(cell)[row : row + 1, part] - group
            error = float(output_error(delta, statistics(x).hessian))
            assert error == pytest.approx(min(errors), rel=1e-4)


def test_a_group_is_clipped_with_the_errors_of_the_others_in_view() -> None:
    # one row, two groups; of each only the first input ever speaks, the second group's
    # saying the opposite of the first's, so that equal errors cancel
    x = torch.zeros(100, 64)
    x[:, 0] = gaussian(100, 1)[:, 0]
    x[:, 32] = -x[:, 0]
    weight = torch.full((1, 64), 0.1)
    weight[0, [0, 32]] = 0.9
    weight[0, [1, 33]] = torch.tensor([1.1, 1.3])
    inputs = statistics(x)
    scheme = Scheme(32, symmetric=True)
    (cell,) = PLUGIN.quantize([weight], inputs, scheme, [4])[4]
    # Steps of 2 * 1.1 / 15 and 2 * 1.3 / 15 put both 0.9 a little low, at 0.880 and
    # 0.867. Each group alone is best off nearest to 0.9: the first as it is, the second
    # at 7 steps of 1.95 / 15, 0.910, and then the outputs would be off by 0.030 x. In
    # view of each other both may stay low, and what is left is at most 0.013 x
    left = dequantize(cell)[0, 0] - dequantize(cell)[0, 32]
    assert abs(float(left)) <= 0.0131


def test_silent_inputs_leave_plain_rounding() -> None:
    weight = gaussian(4, 64)
    inputs = InputStatistics.empty(64)
    (cell,) = PLUGIN.quantize([weight], inputs, Scheme(), [4], foldable=True)[4]
    assert cell.codes.equal(round_to_nearest(weight, Scheme(), 4).codes)
    assert cell.channel_scale is None


def test_no_weights_give_no_cells() -> None:
    inputs = InputStatistics.empty(8)
    assert PLUGIN.quantize([], inputs, Scheme(), [4], foldable=True) == {4: []}
