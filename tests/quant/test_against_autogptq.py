"""Our GPTQ and our packing against auto-gptq 0.7.1, which we did not write.

It keeps scales in float32 and we in fp16. A code is w / scale: moving a scale by 2**-11
of itself moves the outer codes of 8 bits by an eighth, so some codes change, and what
is passed on with them. Codes are therefore compared where both have the same scales: on
weights whose range is an exact multiple of an fp16 number, or with its scales rounded
to fp16 as they are fitted. Untouched, it is compared by output error. It knows one
range for each grid, so ours are not searched.

Codes are compared where both are solved in float64. In float32, a near-tie falls as the
sums of a processor happen to be rounded, and the rest of its row with it.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, Cell, dequantize, round_to_nearest
from quant.hessian import InputStatistics, total_error
from quant.methods._columns import Route
from quant.methods._gptq import STATIC_BITS, Part, solve_parts
from quant.ordering import by_loudness
from quant.packing import pack
from tests.quant.peers import AutoGptq, Solved, load_auto_gptq

if TYPE_CHECKING:
    import types

EACH_WIDTH = pytest.mark.parametrize("bits", LOW_WIDTHS)
# what it can pack
EACH_PACKED = pytest.mark.parametrize("bits", [2, 3, 4, 8])


@pytest.fixture(scope="module")
def package() -> types.ModuleType:
    """auto_gptq with its submodules, but without running its `__init__`."""
    found = load_auto_gptq()
    if found is None:
        pytest.skip("auto-gptq is not installed (the extra is called gptq)")
    return found


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def statistics(features: int, tokens: int = 1500) -> InputStatistics:
    mixing = gaussian(features, features, seed=1) / math.sqrt(features) + torch.eye(
        features
    )
    loud = torch.exp(gaussian(1, features, seed=2))
    inputs = InputStatistics.empty(features)
    inputs.add(gaussian(tokens, features, seed=3) @ mixing * loud)
    return inputs


def exact(rows: int, columns: int, bits: int) -> torch.Tensor:
    """Weights whose range is 2**bits - 1 times a power of two, in every row."""
    weight = gaussian(rows, columns)
    step = 2.0 ** (torch.arange(rows) % 3 - bits).unsqueeze(1)
    low, high = -(2.0 ** (bits - 1)) * step, (2.0 ** (bits - 1) - 1) * step
    weight = weight / weight.abs().amax(1, keepdim=True) * high
    weight[:, :1], weight[:, 1:2] = low, high
    return weight


def ours(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    bits: int,
    scheme: Scheme,
    *,
    order: torch.Tensor | None = None,
    span: int = 1,
) -> Cell:
    # other widths ride along in the same problem and must not matter
    parts = {each: Part.of(weight, scheme, each) for each in sorted({bits, 5, 6})}
    route = Route.of(hessian, order, span)
    solve_parts(list(parts.values()), scheme, route, search=False)
    return parts[bits].cell


def assert_the_same(cell: Cell, solved: Solved) -> None:
    """Every code, and what it stands for."""
    assert (cell.codes == solved.codes).all()
    torch.testing.assert_close(dequantize(cell), solved.weight.float())


@EACH_WIDTH
@pytest.mark.parametrize("group", [128, "channel"])
def test_codes_are_the_same_where_scales_are_exact(
    package: types.ModuleType, bits: int, group: int | str
) -> None:
    # one group of 128 a row, or one of 320
    features = 128 if group == 128 else 320
    weight, hessian = exact(48, features, bits), statistics(features).hessian.double()
    cell = ours(weight, hessian, bits, Scheme(group))
    peer = AutoGptq(package, Scheme(group), static=bits <= STATIC_BITS, half=False)
    assert_the_same(cell, peer.solve(weight, hessian, bits))


@EACH_WIDTH
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [128, 32, "channel"])
def test_codes_are_the_same_once_its_scales_are_rounded_to_fp16(
    package: types.ModuleType, bits: int, symmetric: bool, group: int | str
) -> None:
    weight, hessian = gaussian(48, 384), statistics(384).hessian.double()
    scheme = Scheme(group, symmetric)
    cell = ours(weight, hessian, bits, scheme)
    peer = AutoGptq(package, scheme, static=bits <= STATIC_BITS)
    assert_the_same(cell, peer.solve(weight, hessian, bits))


@EACH_WIDTH
@pytest.mark.parametrize("symmetric", [False, True])
def test_one_group_a_row_by_loudness_has_the_codes_of_its_act_order(
    package: types.ModuleType, bits: int, symmetric: bool
) -> None:
    weight, hessian = gaussian(48, 384), statistics(384).hessian.double()
    scheme = Scheme("channel", symmetric)
    cell = ours(weight, hessian, bits, scheme, order=by_loudness(hessian, 384))
    peer = AutoGptq(package, scheme, static=True, act_order=True)
    solved = peer.solve(weight, hessian, bits)
    assert cell.scale.double().equal(solved.scale)
    assert_the_same(cell, solved)


@EACH_WIDTH
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [128, 32, "channel"])
def test_codes_in_our_order_are_those_of_its_plain_loop_over_reordered_inputs(
    package: types.ModuleType, bits: int, symmetric: bool, group: int | str
) -> None:
    weight, hessian = gaussian(48, 384), statistics(384).hessian.double()
    scheme = Scheme(group, symmetric)
    shared = scheme.columns(384)
    loud = by_loudness(hessian, shared)
    cell = ours(weight, hessian, bits, scheme, order=loud, span=shared)
    order = Route.of(hessian, loud, shared).order
    peer = AutoGptq(package, scheme, static=bits <= STATIC_BITS)
    solved = peer.solve(weight[:, order], hessian[order][:, order], bits)
    # groups stay together, so they have the same grids wherever they stand
    assert (cell.codes[:, order] == solved.codes).all()
    torch.testing.assert_close(dequantize(cell)[:, order], solved.weight.float())


@EACH_WIDTH
@pytest.mark.parametrize("group", [128, "channel"])
def test_untouched_it_ends_at_the_same_output_error(
    package: types.ModuleType, bits: int, group: int | str
) -> None:
    weight, inputs = gaussian(64, 384), statistics(384)
    cell = ours(weight, inputs.hessian, bits, Scheme(group))
    peer = AutoGptq(package, Scheme(group), static=bits <= STATIC_BITS, half=False)
    solved = peer.solve(weight, inputs.hessian, bits)
    our_error = total_error(dequantize(cell) - weight, inputs.hessian)
    their_error = total_error(solved.weight - weight, inputs.hessian)
    # two runs that part at some near-tie differ like two draws of rounding noise
    assert our_error == pytest.approx(their_error, rel=0.05)


@EACH_PACKED
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
