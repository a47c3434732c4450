"""Our GPTQ and our packing against auto-gptq 0.7.1, which we did not write.

It keeps scales in float32 and we in fp16. A code is w / scale: moving a scale by 2**-11
of itself moves the outer codes of 8 bits by an eighth, so some codes change, and what
is passed on with them. Codes are therefore compared where both have the same scales: on
weights whose range is an exact multiple of an fp16 number, or with its scales rounded
to fp16 as they are fitted. Untouched, it is compared by output error.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
import warnings
from importlib import import_module
from typing import Any

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.grid import Cell, dequantize, round_to_nearest
from quant.hessian import InputStatistics, output_error
from quant.methods.gptq import PLUGIN
from quant.packing import pack

BITS = pytest.mark.parametrize("bits", [2, 3, 4, 8])


@pytest.fixture(scope="module")
def package() -> types.ModuleType:
    """auto_gptq with its submodules, but without running its `__init__`."""
    found = importlib.util.find_spec("auto_gptq")
    if found is None:
        pytest.skip("auto-gptq is not installed (the extra is called gptq)")
    # its __init__ imports names that transformers 5 has dropped
    bare = types.ModuleType("auto_gptq")
    bare.__path__ = list(found.submodule_search_locations or ())
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setitem(sys.modules, "auto_gptq", bare)
        warnings.simplefilter("ignore")
        import_module("auto_gptq.quantization.gptq")
        import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda")
    return bare


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def activations(features: int, tokens: int = 1500) -> torch.Tensor:
    mixing = gaussian(features, features, seed=1) / math.sqrt(features) + torch.eye(
        features
    )
    loud = torch.exp(gaussian(1, features, seed=2))
    return gaussian(tokens, features, seed=3) @ mixing * loud


def exact(rows: int, columns: int, bits: int) -> torch.Tensor:
    """Weights whose range is 2**bits - 1 times a power of two, in every row."""
    weight = gaussian(rows, columns)
    step = 2.0 ** (torch.arange(rows) % 3 - bits).unsqueeze(1)
    low, high = -(2.0 ** (bits - 1)) * step, (2.0 ** (bits - 1) - 1) * step
    weight = weight / weight.abs().amax(1, keepdim=True) * high
    weight[:, :1], weight[:, 1:2] = low, high
    return weight


def round_scales(quantizer: Any, patch: pytest.MonkeyPatch) -> None:
    """Make auto-gptq's grids round their scales to fp16, before the zero-point."""
    find = quantizer.find_params

    def find_params(self: Any, x: torch.Tensor, weight: bool = False) -> None:
        find(self, x, weight=weight)
        self.scale = self.scale.half().float()
        if not self.sym:
            low = x.amin(1, keepdim=True).clamp(max=0)
            self.zero = torch.round(-low / self.scale)

    patch.setattr(quantizer, "find_params", find_params)


def theirs(
    package: types.ModuleType,
    weight: torch.Tensor,
    x: torch.Tensor,
    bits: int,
    scheme: Scheme,
    half: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Dequantized weights and codes of `GPTQ.fasterquant`."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    gptq = package.quantization.gptq.GPTQ(layer)
    gptq.quantizer.configure(bits, perchannel=True, sym=scheme.symmetric)
    gptq.add_batch(x, None)
    group = scheme.group_size if isinstance(scheme.group_size, int) else -1
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.cuda, "synchronize", lambda: None)
        if half:
            round_scales(package.quantization.quantizer.Quantizer, patch)
        scale, zero, group_of = gptq.fasterquant(
            # its groups inside a block are fitted to weights that lack the corrections
            # of that block; with a block per group they have them, as ours
            blocksize=group if group > 0 else 128,
            group_size=group,
            static_groups=group > 0 and bits <= 3,
        )
    solved = layer.weight.data
    index = group_of.long()
    return solved, torch.round(solved / scale[:, index]) + zero[:, index]


def ours(
    weight: torch.Tensor, x: torch.Tensor, bits: int, scheme: Scheme
) -> tuple[Cell, InputStatistics]:
    inputs = InputStatistics.empty(x.shape[1])
    # it counts a matrix of tokens as one sample; only the size of H depends on that
    inputs.add(x)
    # other widths ride along in the same problem and must not matter
    cells = PLUGIN.quantize([weight], inputs, scheme, sorted({bits, 5, 6}))
    return cells[bits][0], inputs


@BITS
@pytest.mark.parametrize("group", [128, "channel"])
def test_codes_are_the_same_where_scales_are_exact(
    package: types.ModuleType, bits: int, group: int | str
) -> None:
    # one group of 128 a row, or one of 320
    features = 128 if group == 128 else 320
    weight, x = exact(48, features, bits), activations(features)
    cell, _ = ours(weight, x, bits, Scheme(group))
    solved, codes = theirs(package, weight, x, bits, Scheme(group))
    assert cell.fallback is None
    assert (cell.codes == codes).double().mean() >= 0.999
    close = (dequantize(cell) - solved).abs() < 1e-6
    assert close.double().mean() >= 0.999


@BITS
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [128, 32, "channel"])
def test_codes_are_the_same_once_its_scales_are_rounded_to_fp16(
    package: types.ModuleType, bits: int, symmetric: bool, group: int | str
) -> None:
    weight, x = gaussian(48, 384), activations(384)
    scheme = Scheme(group, symmetric)
    cell, _ = ours(weight, x, bits, scheme)
    _, codes = theirs(package, weight, x, bits, scheme, half=True)
    assert cell.fallback is None
    assert (cell.codes == codes).double().mean() >= 0.999


@BITS
@pytest.mark.parametrize("group", [128, "channel"])
def test_untouched_it_ends_at_the_same_output_error(
    package: types.ModuleType, bits: int, group: int | str
) -> None:
    weight, x = gaussian(64, 384), activations(384)
    cell, inputs = ours(weight, x, bits, Scheme(group))
    solved, _ = theirs(package, weight, x, bits, Scheme(group))
    our_error = float(output_error(dequantize(cell) - weight, inputs.hessian).sum())
    their_error = float(output_error(solved - weight, inputs.hessian).sum())
    # two runs that part at some near-tie differ like two draws of rounding noise
    assert our_error == pytest.approx(their_error, rel=0.05)


@BITS
def test_its_packer_makes_the_same_stream_of_bits(
    package: types.ModuleType, bits: int
) -> None:
    cell = round_to_nearest(gaussian(32, 64), Scheme(32), bits)
    assert cell.zero is not None
    linear = torch.nn.Linear(64, 32, bias=False)
    linear.weight.data = dequantize(cell)
    packed = package.nn_modules.qlinear.qlinear_cuda.QuantLinear(
        bits, 32, 64, 32, bias=False, weight_dtype=torch.float32
    )
    with warnings.catch_warnings():
        # it packs zero - 1 as an unsigned number
        warnings.simplefilter("ignore")
        packed.pack(linear, cell.scale.float(), cell.zero.float())
    # its words run down the inputs, one column for each output
    words = packed.qweight.T.contiguous().view(torch.uint8)
    for row, codes in zip(words, cell.codes, strict=True):
        assert pack(codes, bits).equal(row)
