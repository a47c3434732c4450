"""Our AWQ against autoawq 0.2.9, which we did not write.

It runs real activations through the layers for every candidate and keeps everything in
float32; we have the statistics alone and fp16 scales. So the grids are compared up to
what fp16 does to them, and the searches by the output error they reach.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, dequantize, round_to_nearest
from quant.hessian import InputStatistics, output_error
from quant.methods.awq import PLUGIN

# autoawq imports these for downloads and device maps, which the search does not use
UNUSED = ("accelerate", "datasets")


@pytest.fixture(scope="module")
def quantizer_class() -> Any:
    """`AwqQuantizer`, without the model classes that `import awq` pulls in."""
    found = importlib.util.find_spec("awq")
    if found is None:
        pytest.skip("autoawq is not installed (the extra is called awq)")
    bare = types.ModuleType("awq")
    bare.__path__ = list(found.submodule_search_locations or ())
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setitem(sys.modules, "awq", bare)
        for name in UNUSED:
            if importlib.util.find_spec(name) is None:
                patch.setitem(sys.modules, name, empty_module(name))
        return import_module("awq.quantize.quantizer").AwqQuantizer


def empty_module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    # transformers looks at the spec of what it finds imported
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__["load_dataset"] = None
    return module


def quantizer(cls: Any, bits: int, group: int, *, duo: bool = False) -> Any:
    """An `AwqQuantizer` that knows its settings, but no model."""
    made = cls.__new__(cls)
    made.w_bit, made.group_size, made.zero_point = bits, group, True
    made.duo_scaling, made.n_parallel_calib_samples = duo, None
    made.max_chunk_memory = 2**30
    return made


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def activations(features: int, spread: float, tokens: int = 512) -> torch.Tensor:
    """Correlated inputs whose loudness spreads over e**spread."""
    mixing = gaussian(features, features, seed=1) / math.sqrt(features) + torch.eye(
        features
    )
    loud = torch.exp(spread * gaussian(1, features, seed=2))
    return gaussian(tokens, features, seed=3) @ mixing * loud


class Siblings(torch.nn.Module):
    """Linears that read one input, after the module their scale folds into."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(weights[0].shape[1])
        self.linears = torch.nn.ModuleList()
        for weight in weights:
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
            self.linears.append(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([linear(x) for linear in self.linears], dim=-1)


def searched(
    search: Any, weights: list[torch.Tensor], x: torch.Tensor, *, foldable: bool
) -> list[torch.Tensor]:
    """Effective weights after autoawq's own search of a scale and of clipping."""
    module = Siblings(weights)
    scale = torch.ones(x.shape[1])
    if foldable:
        _, _, scale = search._search_best_scale(
            module, module.norm, list(module.linears), x, module
        )
    result = []
    for weight in weights:
        scaled = weight * scale
        bound = search._compute_best_clip(scaled, x / scale)
        groups = scaled.reshape(*bound.shape[:2], -1)
        clipped = torch.clamp(groups, -bound, bound).reshape(weight.shape)
        result.append(search.pseudo_quantize_tensor(clipped)[0] / scale)
    return result


def errors(
    results: list[torch.Tensor], weights: list[torch.Tensor], x: torch.Tensor
) -> float:
    """Mean squared output error over all siblings, by running the layers."""
    return sum(
        float((x @ (result - weight).T).square().sum(1).mean())
        for result, weight in zip(results, weights, strict=True)
    )


@pytest.mark.parametrize("bits", LOW_WIDTHS)
@pytest.mark.parametrize("group", [128, 32])
def test_grids_are_the_same_where_scales_are_exact(
    quantizer_class: Any, bits: int, group: int
) -> None:
    weight = gaussian(32, 256).view(32, -1, group)
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    weight = (weight / weight.abs().amax(-1, keepdim=True) * high).contiguous()
    # every group spans 2**bits - 1 steps of a power of two
    weight[..., 0], weight[..., 1] = low, high
    weight = (weight * 2.0 ** (torch.arange(32) % 3 - 8).view(-1, 1, 1)).flatten(1)
    cell = round_to_nearest(weight, Scheme(group), bits)
    theirs, scale, zero = quantizer(
        quantizer_class, bits, group
    ).pseudo_quantize_tensor(weight)
    assert dequantize(cell).equal(theirs)
    assert cell.scale.float().equal(scale)
    assert cell.zero_point.equal(zero)


@pytest.mark.parametrize("bits", LOW_WIDTHS)
@pytest.mark.parametrize("group", [128, 32])
def test_grids_are_the_same_up_to_the_rounding_of_scales(
    quantizer_class: Any, bits: int, group: int
) -> None:
    weight = gaussian(64, 256) * 0.02
    cell = round_to_nearest(weight, Scheme(group), bits)
    theirs, scale, _ = quantizer(quantizer_class, bits, group).pseudo_quantize_tensor(
        weight
    )
    torch.testing.assert_close(cell.scale.float(), scale, rtol=2**-10, atol=2**-24)
    # a scale that moves by 2**-11 of itself moves the far end by 2**bits times that;
    # a near-tie, or a zero-point near a half, may fall to the other side
    step = cell.scale.float().repeat_interleave(group, 1)
    off = (dequantize(cell) - theirs).abs() / step
    assert (off <= 2**bits * 2**-11 + 1e-3).double().mean() > 0.97
    assert off.max() <= 1 + 2**bits * 2**-10


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("group", "spread"), [(128, 0.5), (32, 1.5)])
@pytest.mark.parametrize("foldable", [False, True])
def test_the_search_ends_as_well_as_that_on_real_activations(
    quantizer_class: Any, bits: int, group: int, spread: float, foldable: bool
) -> None:
    x = activations(256, spread)
    weights = [gaussian(64, 256, seed=5), 2 * gaussian(64, 256, seed=6)]
    inputs = InputStatistics.empty(256)
    inputs.add(x)
    cells = PLUGIN.quantize(weights, inputs, Scheme(group), [bits], foldable=foldable)
    search = quantizer(quantizer_class, bits, group)
    theirs = searched(search, weights, x, foldable=foldable)
    ours = [dequantize(cell) for cell in cells[bits]]
    assert errors(ours, weights, x) <= 1.01 * errors(theirs, weights, x)


def test_the_quadratic_form_is_the_error_that_autoawq_measures() -> None:
    x, weight = activations(64, 1.0), gaussian(8, 64)
    inputs = InputStatistics.empty(64)
    inputs.add(x)
    result = dequantize(round_to_nearest(weight, Scheme(), 4))
    form = float(output_error(result - weight, inputs.hessian).sum())
    # the Hessian counts twice
    assert form == pytest.approx(2 * errors([result], [weight], x), rel=1e-4)
