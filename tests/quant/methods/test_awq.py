from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, Cell, dequantize, round_to_nearest
from quant.hessian import InputStatistics, output_error
from quant.methods import awq
from quant.methods.awq import PLUGIN, candidate
from tests.quant.peers_awq import activations, gaussian

SCHEMES = [Scheme(), Scheme(32, symmetric=True), Scheme("channel"), Scheme("tensor")]
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=str)
WITHOUT_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device"
)


def statistics(features: int, tokens: int = 400) -> InputStatistics:
    """Of inputs of which a few are much louder than the rest."""
    inputs = InputStatistics.empty(features)
    inputs.add(activations(features, 1.5, tokens))
    return inputs


def error_of(cell: Cell, weight: torch.Tensor, inputs: InputStatistics) -> float:
    return float(output_error(dequantize(cell) - weight, inputs.hessian).sum())


def rounding_error(
    weight: torch.Tensor, inputs: InputStatistics, scheme: Scheme, bits: int
) -> float:
    return error_of(round_to_nearest(weight, scheme, bits), weight, inputs)


def fix_alpha(patch: pytest.MonkeyPatch, alpha: float) -> None:
    patch.setattr(awq, "_best_alpha", lambda *_: alpha)


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
@pytest.mark.parametrize("rows", [16, 128])
def test_siblings_share_the_scale_that_serves_all_of_them(
    scheme: Scheme, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awq, "SAMPLE_WEIGHTS", 256 * 128)
    # scales are judged by what clipping leaves
    monkeypatch.setattr(awq, "polished", lambda cell, *_: cell)
    inputs = statistics(128)
    weights = [gaussian(rows, 128), 3 * gaussian(2 * rows, 128, seed=7)]

    def cost() -> float:
        cells = PLUGIN.quantize(weights, inputs, scheme, [3], foldable=True)[3]
        return sum(map(error_of, cells, weights, [inputs] * 2))

    found, costs = cost(), []
    for step in range(21):
        fix_alpha(monkeypatch, step / 20)
        costs.append(cost())
    # the search skips steps, and of many rows it looks at some
    assert found <= 1.03 * min(costs)


def test_siblings_have_the_same_scale() -> None:
    weights = [gaussian(16, 128), 3 * gaussian(8, 128, seed=7)]
    first, second = PLUGIN.quantize(
        weights, statistics(128), Scheme(), [3], foldable=True
    )[3]
    assert first.channel_scale is not None
    assert second.channel_scale is not None
    assert first.channel_scale.equal(second.channel_scale)


@EACH_SCHEME
@pytest.mark.parametrize("foldable", [False, True])
@pytest.mark.parametrize("features", [8, 64, 100])
def test_no_cell_is_worse_than_plain_rounding(
    scheme: Scheme, foldable: bool, features: int
) -> None:
    inputs = statistics(features, tokens=30)
    weights = [gaussian(8, features), gaussian(12, features, seed=7)]
    found = PLUGIN.quantize(weights, inputs, scheme, [2, 3, 6], foldable=foldable)
    for bits, cells in found.items():
        for cell, weight in zip(cells, weights, strict=True):
            plain = rounding_error(weight, inputs, scheme, bits)
            assert error_of(cell, weight, inputs) <= 1.0001 * plain


@pytest.mark.parametrize("scheme", SCHEMES[:2], ids=str)
def test_a_scale_that_makes_one_sibling_worse_is_given_up_for_all(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = statistics(128)
    # weights that are large where the inputs are loud: scaled up, they leave no room
    # for the others
    loud = gaussian(16, 128, seed=7) * candidate(inputs.mean_abs, 0.5).float()
    weights = [gaussian(16, 128), loud]
    fix_alpha(monkeypatch, 0.7)
    (alone,) = PLUGIN.quantize(weights[:1], inputs, scheme, [4], foldable=True)[4]
    assert alone.channel_scale is not None
    cells = PLUGIN.quantize(weights, inputs, scheme, [4], foldable=True)[4]
    clipped = PLUGIN.quantize(weights, inputs, scheme, [4], foldable=False)[4]
    for cell, other in zip(cells, clipped, strict=True):
        assert cell.channel_scale is None
        assert dequantize(cell).equal(dequantize(other))


def test_without_a_module_to_fold_into_there_is_no_scale() -> None:
    inputs, weight = statistics(128), gaussian(16, 128)
    for (cell,) in PLUGIN.quantize([weight], inputs, Scheme(), LOW_WIDTHS).values():
        assert cell.channel_scale is None


def test_on_uneven_inputs_scaling_and_clipping_each_help() -> None:
    inputs, weight = statistics(256), gaussian(64, 256)
    plain = rounding_error(weight, inputs, Scheme(), 3)
    (clipped,) = PLUGIN.quantize([weight], inputs, Scheme(), [3])[3]
    (both,) = PLUGIN.quantize([weight], inputs, Scheme(), [3], foldable=True)[3]
    assert error_of(clipped, weight, inputs) < 0.7 * plain
    assert error_of(both, weight, inputs) < 0.5 * plain


@pytest.mark.parametrize("foldable", [False, True])
def test_a_width_does_not_depend_on_the_others(foldable: bool) -> None:
    inputs, weight = statistics(128), gaussian(16, 128)
    found = PLUGIN.quantize([weight], inputs, Scheme(), LOW_WIDTHS, foldable=foldable)
    for bits, (cell,) in found.items():
        (alone,) = PLUGIN.quantize(
            [weight], inputs, Scheme(), [bits], foldable=foldable
        )[bits]
        assert dequantize(cell).equal(dequantize(alone))


@EACH_SCHEME
def test_rows_are_clipped_alike_in_one_chunk_and_in_many(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, weight = statistics(64), gaussian(300, 64)
    (whole,) = PLUGIN.quantize([weight], inputs, scheme, [3], foldable=True)[3]
    monkeypatch.setattr(awq, "CPU_ROWS", 1000)
    (other,) = PLUGIN.quantize([weight], inputs, scheme, [3], foldable=True)[3]
    # sums may run in another order, and a range that is as good may win
    assert error_of(other, weight, inputs) == pytest.approx(
        error_of(whole, weight, inputs), rel=0.01
    )
    assert whole.scale.shape == other.scale.shape


class Largest(TorchDispatchMode):
    """Remembers the size of the largest floating-point tensor that was made."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.is_floating_point():
            self.numel = max(self.numel, made.numel())
        return made


@EACH_SCHEME
def test_no_copy_of_a_large_matrix_is_made(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awq, "CPU_ROWS", 64)
    monkeypatch.setattr(awq, "SAMPLE_WEIGHTS", 2**10)
    inputs, weight = statistics(64), gaussian(4096, 64).bfloat16()
    with Largest() as largest:
        PLUGIN.quantize([weight], inputs, scheme, [4], foldable=True)
    assert largest.numel < weight.numel()


def test_silent_inputs_leave_plain_rounding() -> None:
    weight = gaussian(4, 64)
    inputs = InputStatistics.empty(64)
    (cell,) = PLUGIN.quantize([weight], inputs, Scheme(), [4], foldable=True)[4]
    assert cell.codes.equal(round_to_nearest(weight, Scheme(), 4).codes)
    assert cell.channel_scale is None


def test_no_weights_give_no_cells() -> None:
    inputs = InputStatistics.empty(8)
    assert PLUGIN.quantize([], inputs, Scheme(), [4], foldable=True) == {4: []}


@pytest.mark.gpu
@WITHOUT_GPU
@EACH_SCHEME
@pytest.mark.parametrize("foldable", [False, True])
def test_a_gpu_ends_at_the_same_errors(scheme: Scheme, foldable: bool) -> None:
    inputs, weight = statistics(256), gaussian(300, 256)
    there = InputStatistics(inputs.hessian.cuda(), inputs.mean_abs.cuda())
    found = PLUGIN.quantize([weight], inputs, scheme, [2, 4, 8], foldable=foldable)
    others = PLUGIN.quantize(
        [weight.cuda()], there, scheme, [2, 4, 8], foldable=foldable
    )
    for bits, (cell,) in found.items():
        (other,) = others[bits]
        assert other.codes.device.type == "cuda"
        error = float(
            output_error(dequantize(other) - weight.cuda(), there.hessian).sum()
        )
        assert error == pytest.approx(error_of(cell, weight, inputs), rel=0.01)
