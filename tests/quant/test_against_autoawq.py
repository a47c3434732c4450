"""Our AWQ against autoawq 0.2.9, which we did not write.

It runs real activations through the layers for every candidate and keeps everything in
float32; we have the statistics alone and fp16 scales. So the grids are compared up to
what fp16 does to them, and the searches by the output error they reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, dequantize, round_to_nearest
from quant.hessian import InputStatistics, output_error
from quant.methods.awq import PLUGIN, candidate
from tests.quant.peers_awq import AutoAwq, activations, gaussian, load_autoawq

if TYPE_CHECKING:
    import types

EACH_WIDTH = pytest.mark.parametrize("bits", LOW_WIDTHS)


@pytest.fixture(scope="module")
def package() -> types.ModuleType:
    """autoawq, as far as its search needs it."""
    found = load_autoawq()
    if found is None:
        pytest.skip("autoawq is not installed (the extra is called awq)")
    return found


def statistics(x: torch.Tensor) -> InputStatistics:
    inputs = InputStatistics.empty(x.shape[1])
    inputs.add(x)
    return inputs


def errors(
    results: list[torch.Tensor], weights: list[torch.Tensor], x: torch.Tensor
) -> float:
    """Mean squared output error over all siblings, by running the layers."""
    return sum(
        float((x @ (result - weight).T).square().sum(1).mean())
        for result, weight in zip(results, weights, strict=True)
    )


@EACH_WIDTH
@pytest.mark.parametrize("group", [128, 32])
def test_grids_are_the_same_where_scales_are_exact(
    package: types.ModuleType, bits: int, group: int
) -> None:
    weight = gaussian(32, 256).view(32, -1, group)
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    weight = (weight / weight.abs().amax(-1, keepdim=True) * high).contiguous()
    # every group spans 2**bits - 1 steps of a power of two
    weight[..., 0], weight[..., 1] = low, high
    weight = (weight * 2.0 ** (torch.arange(32) % 3 - 8).view(-1, 1, 1)).flatten(1)
    cell = round_to_nearest(weight, Scheme(group), bits)
    search = AutoAwq(package, group).search(bits)
    theirs, scale, zero = search.pseudo_quantize_tensor(weight)
    assert dequantize(cell).equal(theirs)
    assert cell.scale.float().equal(scale)
    assert cell.zero_point.equal(zero)


@EACH_WIDTH
@pytest.mark.parametrize("group", [128, 32])
def test_grids_are_the_same_up_to_the_rounding_of_scales(
    package: types.ModuleType, bits: int, group: int
) -> None:
    weight = gaussian(64, 256) * 0.02
    cell = round_to_nearest(weight, Scheme(group), bits)
    search = AutoAwq(package, group).search(bits)
    theirs, scale, _ = search.pseudo_quantize_tensor(weight)
    torch.testing.assert_close(cell.scale.float(), scale, rtol=2**-10, atol=2**-24)
    # a scale that moves by 2**-11 of itself moves the far end by 2**bits times that;
    # a near-tie, or a zero-point near a half, may fall to the other side
    step = cell.scale.float().repeat_interleave(group, 1)
    off = (dequantize(cell) - theirs).abs() / step
    assert (off <= 2**bits * 2**-11 + 1e-3).double().mean() > 0.97
    assert off.max() <= 1 + 2**bits * 2**-10


def test_a_scale_of_its_search_is_one_of_our_candidates(
    package: types.ModuleType,
) -> None:
    x, weight = activations(256, 1.0), gaussian(64, 256, seed=5)
    scale = AutoAwq(package).scale([weight], x, 4)
    off = [
        float((candidate(x.abs().mean(0), step / 20).float() / scale - 1).abs().max())
        for step in range(20)
    ]
    # ours is fp16
    assert min(off) < 2**-9


@EACH_WIDTH
@pytest.mark.parametrize(("group", "spread"), [(128, 0.5), (32, 1.5)])
@pytest.mark.parametrize("foldable", [False, True])
def test_the_search_ends_better_than_that_on_real_activations(
    package: types.ModuleType, bits: int, group: int, spread: float, foldable: bool
) -> None:
    x = activations(256, spread)
    weights = [gaussian(64, 256, seed=5), 2 * gaussian(64, 256, seed=6)]
    cells = PLUGIN.quantize(
        weights, statistics(x), Scheme(group), [bits], foldable=foldable
    )
    theirs = AutoAwq(package, group).solve(weights, x, bits, foldable=foldable)
    ours = [dequantize(cell) for cell in cells[bits]]
    assert errors(ours, weights, x) < errors(theirs, weights, x)


@EACH_WIDTH
def test_it_is_better_on_tokens_that_neither_has_seen(
    package: types.ModuleType, bits: int
) -> None:
    x, weight = activations(256, 1.0, tokens=3072), gaussian(64, 256, seed=5)
    seen, unseen = x[:2048], x[2048:]
    cells = PLUGIN.quantize([weight], statistics(seen), Scheme(), [bits], foldable=True)
    # with and without the weights in its scales
    best = min(
        errors(
            AutoAwq(package, duo=duo).solve([weight], seen, bits, foldable=True),
            [weight],
            unseen,
        )
        for duo in (False, True)
    )
    assert errors([dequantize(cells[bits][0])], [weight], unseen) < best


def test_the_quadratic_form_is_the_error_that_autoawq_measures() -> None:
    x, weight = activations(64, 1.0), gaussian(8, 64)
    result = dequantize(round_to_nearest(weight, Scheme(), 4))
    form = float(output_error(result - weight, statistics(x).hessian).sum())
    # the Hessian counts twice
    assert form == pytest.approx(2 * errors([result], [weight], x), rel=1e-4)
