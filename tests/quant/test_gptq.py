"""The stacked solve against the plain loop of the paper, one width after the other."""

from __future__ import annotations

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.hessian import inverse_factor
from quant.methods._columns import Route
from tests.benchmarks.bench_gptq import (
    Layer,
    agreement,
    loops_per_width,
    make_layer,
    solve_stacked,
)

SCHEMES = [
    Scheme(),
    Scheme(32),
    Scheme(64, symmetric=True),
    Scheme("channel"),
    Scheme("channel", symmetric=True),
]
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=str)


def assert_as_good_as_the_loop(layer: Layer, scheme: Scheme) -> None:
    """The error is the loop's to 1 %, and rows part at a near-tie.

    How many part is a matter of how a processor rounds its sums.
    """
    route = Route.of(layer.hessian)
    parts = solve_stacked(layer.weight, route, scheme, search=False)
    loops = loops_per_width(layer.weight, route.factor, scheme)
    for part, loop in zip(parts, loops, strict=True):
        found = agreement(part.cell, loop, layer)
        # what comes after in the same row makes up for another error
        assert found.first <= 1
        assert found.error == pytest.approx(1, abs=0.01)


@EACH_SCHEME
def test_in_double_precision_every_code_is_that_of_the_loop(scheme: Scheme) -> None:
    layer = make_layer(96, 256)
    route = Route.of(layer.hessian.double())
    parts = solve_stacked(layer.weight, route, scheme, search=False)
    loops = loops_per_width(layer.weight, route.factor, scheme)
    for part, loop in zip(parts, loops, strict=True):
        assert part.cell.codes.equal(loop.codes)
        assert part.cell.scale.equal(loop.scale)
        assert part.cell.zero_point.equal(loop.zero_point)


@EACH_SCHEME
# a multiple of nothing, but for the last of two blocks
@pytest.mark.parametrize("features", [256, 250])
def test_in_single_precision_codes_part_at_near_ties_alone(
    scheme: Scheme, features: int
) -> None:
    assert_as_good_as_the_loop(make_layer(96, features), scheme)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@EACH_SCHEME
def test_an_accelerator_gives_the_codes_of_the_loop(scheme: Scheme) -> None:
    assert_as_good_as_the_loop(make_layer(96, 256, "cuda"), scheme)
    layer = make_layer(96, 256, "cuda")
    route = Route.of(layer.hessian.double())
    parts = solve_stacked(layer.weight, route, scheme, search=False)
    here = inverse_factor(layer.hessian.cpu().double())
    loops = loops_per_width(layer.weight.cpu(), here, scheme)
    for part, loop in zip(parts, loops, strict=True):
        assert part.cell.codes.cpu().equal(loop.codes)
