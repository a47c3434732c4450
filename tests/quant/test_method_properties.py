"""What holds for every method on every layer; `drawn.py` says what layers there are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allocator.core.allocation import Scheme
from allocator.core.errors import ModelError
from allocator.core.plugins import available, load
from quant.grid import LOW_WIDTHS, Cell, dequantize, round_to_nearest
from quant.hessian import InputStatistics, output_error
from quant.packing import pack, unpack
from tests.quant.drawn import (
    check_codes,
    examples,
    layers,
    per_weight,
    reach,
    schemes,
    widths,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Layer = tuple[list[torch.Tensor], torch.Tensor]

EACH_METHOD = pytest.mark.parametrize("name", available("quant.methods"))
# of weights whose errors float32 can compare
ordinary = st.sampled_from([1e-3, 0.02, 1.0, 30.0])
not_finite = st.sampled_from([math.nan, math.inf, -math.inf])


def statistics(x: torch.Tensor) -> InputStatistics:
    inputs = InputStatistics.empty(x.shape[1])
    inputs.add(x)
    return inputs


def total(
    cells: Sequence[Cell], weights: list[torch.Tensor], inputs: InputStatistics
) -> float:
    """Output error of all siblings, added up in float64."""
    hessian = inputs.hessian.double()
    return sum(
        float(output_error(dequantize(cell).double() - weight.double(), hessian).sum())
        for cell, weight in zip(cells, weights, strict=True)
    )


@EACH_METHOD
@given(layers(), schemes, widths, st.booleans())
@examples(60)
def test_every_method_makes_cells_that_read_back_finite(
    name: str, layer: Layer, scheme: Scheme, bits: int, foldable: bool
) -> None:
    weights, x = layer
    found = load("quant.methods", name).quantize(
        weights, statistics(x), scheme, [bits], foldable=foldable
    )
    for cell, weight in zip(found[bits], weights, strict=True):
        check_codes(cell, weight, scheme)
        assert unpack(pack(cell.codes, bits), bits, weight.shape).equal(cell.codes)


@EACH_METHOD
@given(layers(ordinary), schemes, widths, st.booleans())
@examples(60)
def test_no_method_is_worse_than_rounding_on_the_inputs_it_saw(
    name: str, layer: Layer, scheme: Scheme, bits: int, foldable: bool
) -> None:
    weights, x = layer
    inputs = statistics(x)
    found = load("quant.methods", name).quantize(
        weights, inputs, scheme, [bits], foldable=foldable
    )
    plain = [round_to_nearest(weight, scheme, bits) for weight in weights]
    # errors are compared in float32, where the outputs themselves set the scale
    size = sum(
        float(output_error(w.double(), inputs.hessian.double()).sum()) for w in weights
    )
    allowed = total(plain, weights, inputs) * 1.001 + 1e-6 * size
    assert total(found[bits], weights, inputs) <= allowed


@EACH_METHOD
@given(layers(ordinary), schemes)
@examples(12)
def test_more_bits_are_never_much_worse_under_any_method(
    name: str, layer: Layer, scheme: Scheme
) -> None:
    weights, x = layer
    inputs = statistics(x)
    found = load("quant.methods", name).quantize(weights, inputs, scheme, LOW_WIDTHS)
    # no error is larger than that of weights that are all off by a step
    loudest = float(torch.linalg.eigvalsh(inputs.hessian.double())[-1])
    worst = math.inf
    for bits in LOW_WIDTHS:
        plain = [round_to_nearest(weight, scheme, bits) for weight in weights]
        steps = sum(
            float(per_weight(cell, reach(cell, scheme), cell.codes).square().sum())
            for cell in plain
        )
        error = math.sqrt(total(found[bits], weights, inputs))
        assert error <= (worst + math.sqrt(loudest * steps)) * 1.001
        worst = error


@EACH_METHOD
@given(layers(st.just(0.02)), schemes, not_finite, st.booleans())
@examples(25)
def test_no_method_takes_weights_that_are_not_finite(
    name: str, layer: Layer, scheme: Scheme, bad: float, foldable: bool
) -> None:
    weights, x = layer
    weights[-1].view(-1)[weights[-1].numel() // 2] = bad
    with pytest.raises(ModelError):
        load("quant.methods", name).quantize(
            weights, statistics(x), scheme, [4], foldable=foldable
        )


def check_bad_statistics(
    name: str, weights: list[torch.Tensor], inputs: InputStatistics, scheme: Scheme
) -> None:
    """Whoever reads them refuses; whoever does not, rounds to nearest."""
    try:
        cells = load("quant.methods", name).quantize(
            weights, inputs, scheme, [4], foldable=True
        )[4]
    except ModelError:
        return
    for cell, weight in zip(cells, weights, strict=True):
        assert name == "uniform"
        assert dequantize(cell).equal(dequantize(round_to_nearest(weight, scheme, 4)))


@EACH_METHOD
@given(layers(st.just(0.02)), schemes, not_finite | st.just(1e30))
@examples(25)
def test_activations_that_are_not_finite_or_overflow_are_refused(
    name: str, layer: Layer, scheme: Scheme, bad: float
) -> None:
    weights, x = layer
    x.view(-1)[x.numel() // 2] = bad
    check_bad_statistics(name, weights, statistics(x), scheme)


@EACH_METHOD
@given(layers(st.just(0.02)), schemes, not_finite)
@examples(25)
def test_a_hessian_that_is_not_finite_is_refused(
    name: str, layer: Layer, scheme: Scheme, bad: float
) -> None:
    weights, x = layer
    inputs = statistics(x)
    inputs.hessian.view(-1)[inputs.hessian.numel() // 2] = bad
    check_bad_statistics(name, weights, inputs, scheme)


def test_means_that_are_not_finite_are_refused() -> None:
    inputs = statistics(torch.ones(1, 2))
    inputs.mean_abs[0] = math.nan
    check_bad_statistics("awq", [torch.ones(1, 2)], inputs, Scheme())
