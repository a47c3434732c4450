from __future__ import annotations

import inspect
import math

import pytest
import torch

from allocator.core.allocation import WIDTHS, Scheme
from allocator.core.errors import ModelError, SpecError
from allocator.core.plugins import available, load
from allocator.core.ports import Method, is_stored
from quant.cells import packed_cell
from quant.grid import LOW_WIDTHS, Cell, dequantize, round_to_nearest
from quant.hessian import InputStatistics, output_error
from quant.packing import pack, unpack

EACH = pytest.mark.parametrize("name", available("quant.methods"))
# 96 inputs: one group, three, and one of every other kind
SCHEMES = [
    Scheme(),
    Scheme(32, symmetric=True),
    Scheme(64, scales="bfloat16"),
    Scheme("channel", symmetric=True, scales="bfloat16"),
    Scheme("channel"),
    Scheme("tensor"),
    Scheme("tensor", symmetric=True),
]
EACH_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=str)
SHAPES = ((16, 96), (8, 96))


def method(name: str) -> Method:
    found: Method = load("quant.methods", name)
    return found


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def activations(features: int, tokens: int = 400) -> torch.Tensor:
    mixing = gaussian(features, features, seed=1) / math.sqrt(features) + torch.eye(
        features
    )
    return (
        gaussian(tokens, features, seed=3)
        @ mixing
        * torch.exp(gaussian(1, features, seed=2))
    )


def statistics(x: torch.Tensor) -> InputStatistics:
    inputs = InputStatistics.empty(x.shape[1])
    inputs.add(x)
    return inputs


def siblings() -> list[torch.Tensor]:
    return [gaussian(*shape, seed=5 + seed) for seed, shape in enumerate(SHAPES)]


def relative_error(
    cells: list[Cell], weights: list[torch.Tensor], inputs: InputStatistics
) -> float:
    """Output error of all siblings over the size of their outputs."""
    error = sum(
        float(output_error(dequantize(cell) - weight, inputs.hessian).sum())
        for cell, weight in zip(cells, weights, strict=True)
    )
    return error / sum(float(output_error(w, inputs.hessian).sum()) for w in weights)


@EACH
def test_it_has_a_version_and_the_arguments_of_the_port(name: str) -> None:
    assert method(name).version >= 1
    expected = inspect.signature(Method.quantize).parameters
    assert [*inspect.signature(method(name).quantize).parameters] == [*expected][1:]


@EACH
@EACH_SCHEME
@pytest.mark.parametrize("foldable", [False, True])
def test_each_width_has_one_cell_per_matrix_of_its_shape(
    name: str, scheme: Scheme, foldable: bool
) -> None:
    weights, inputs = siblings(), statistics(activations(96))
    found = method(name).quantize(
        weights, inputs, scheme, LOW_WIDTHS, foldable=foldable
    )
    assert list(found) == list(LOW_WIDTHS)
    for bits, cells in found.items():
        for cell, (rows, columns) in zip(cells, SHAPES, strict=True):
            assert cell.bits == bits
            assert cell.codes.shape == (rows, columns)
            assert cell.codes.dtype == torch.uint8
            assert int(cell.codes.max()) < 2**bits
            assert cell.scale.dtype == getattr(torch, scheme.scales)
            assert cell.scale.numel() == scheme.grids(rows, columns)
            assert (cell.zero is None) == scheme.symmetric
            assert cell.zero is None or cell.zero.shape == cell.scale.shape
            assert dequantize(cell).dtype == torch.float32
            assert unpack(pack(cell.codes, bits), bits, (rows, columns)).equal(
                cell.codes
            )
            assert foldable or cell.channel_scale is None


@EACH
@EACH_SCHEME
def test_zero_points_are_codes_wherever_they_are_whole_numbers(
    name: str, scheme: Scheme
) -> None:
    found = method(name).quantize(
        siblings(), statistics(activations(96)), scheme, LOW_WIDTHS
    )
    for bits, cells in found.items():
        for cell in cells:
            if cell.zero is not None and scheme.group_size != "tensor":
                assert cell.zero.dtype == torch.uint8
                assert int(cell.zero.max()) < 2**bits


@EACH
@EACH_SCHEME
def test_a_group_takes_no_more_values_than_its_width_has_codes(
    name: str, scheme: Scheme
) -> None:
    found = method(name).quantize(
        siblings(), statistics(activations(96)), scheme, [2, 3]
    )
    for bits, cells in found.items():
        for cell in cells:
            weight = dequantize(cell)
            for start in range(0, weight.shape[1], cell.columns):
                group = weight[:8, start : start + cell.columns]
                assert all(len(set(row)) <= 2**bits for row in group.tolist())


@EACH
@EACH_SCHEME
def test_cells_that_are_not_stored_are_made_of_one_matrix_alone(
    name: str, scheme: Scheme
) -> None:
    if is_stored(method(name)):
        pytest.skip("a bank stores its cells")
    weights, inputs = siblings(), statistics(activations(96))
    together = method(name).quantize(weights, inputs, scheme, LOW_WIDTHS, foldable=True)
    for at, weight in enumerate(weights):
        for bits in LOW_WIDTHS:
            (cell,) = method(name).quantize([weight], None, scheme, [bits])[bits]
            assert packed_cell(cell)[0] == packed_cell(together[bits][at])[0]
            assert cell.channel_scale is None


@EACH
@EACH_SCHEME
@pytest.mark.parametrize("foldable", [False, True])
def test_the_error_falls_as_bits_rise(
    name: str, scheme: Scheme, foldable: bool
) -> None:
    weights, inputs = siblings(), statistics(activations(96))
    found = method(name).quantize(
        weights, inputs, scheme, LOW_WIDTHS, foldable=foldable
    )
    errors = [relative_error(list(found[b]), weights, inputs) for b in LOW_WIDTHS]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


@EACH
def test_neither_the_weights_nor_the_statistics_are_modified(name: str) -> None:
    weights, inputs = siblings(), statistics(activations(96))
    weights[1].requires_grad_()
    kept = [weight.detach().clone() for weight in weights]
    hessian, mean_abs = inputs.hessian.clone(), inputs.mean_abs.clone()
    method(name).quantize(weights, inputs, Scheme(), LOW_WIDTHS, foldable=True)
    # alone there is nothing to stack, so nothing that has to be copied
    method(name).quantize(weights[:1], inputs, Scheme("channel"), [4])
    assert all(map(torch.equal, weights, kept))
    assert inputs.hessian.equal(hessian)
    assert inputs.mean_abs.equal(mean_abs)


@EACH
@EACH_SCHEME
def test_the_same_weights_give_the_same_cells(name: str, scheme: Scheme) -> None:
    weights, inputs = siblings(), statistics(activations(96))
    once, again = (
        method(name).quantize(weights, inputs, scheme, [2, 4], foldable=True)
        for _ in range(2)
    )
    for bits in (2, 4):
        for one, other in zip(once[bits], again[bits], strict=True):
            assert one.codes.equal(other.codes)
            assert dequantize(one).equal(dequantize(other))


@EACH
@EACH_SCHEME
@pytest.mark.parametrize("foldable", [False, True])
def test_dead_inputs_constant_rows_and_zeros_stay_finite(
    name: str, scheme: Scheme, foldable: bool
) -> None:
    x = activations(96)
    x[:, [0, 5, 80]] = 0
    odd = gaussian(4, 96)
    odd[0], odd[1], odd[2] = 0.0, 0.7, -0.7
    weights = [odd, torch.zeros(4, 96), torch.full((4, 96), 0.3)]
    for inputs in (statistics(x), statistics(x[:1])):
        found = method(name).quantize(
            weights, inputs, scheme, [2, 3, 8], foldable=foldable
        )
        for cells in found.values():
            assert all(dequantize(cell).isfinite().all() for cell in cells)
            assert dequantize(cells[1]).abs().max() == 0


@EACH
@EACH_SCHEME
def test_inputs_that_calibration_never_saw_leave_plain_rounding(
    name: str, scheme: Scheme
) -> None:
    weight = gaussian(8, 96)
    found = method(name).quantize(
        [weight], statistics(torch.zeros(3, 96)), scheme, LOW_WIDTHS, foldable=True
    )
    for bits, (cell,) in found.items():
        plain = round_to_nearest(weight, scheme, bits)
        assert dequantize(cell).equal(dequantize(plain))


@EACH
@pytest.mark.parametrize("columns", [1, 7, 48, 64])
def test_layers_narrower_than_a_group_work(name: str, columns: int) -> None:
    weight, inputs = gaussian(5, columns), statistics(activations(columns))
    found = method(name).quantize([weight], inputs, Scheme(), [8], foldable=True)
    assert relative_error(list(found[8]), [weight], inputs) < 1e-3


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_read_as_they_are(
    name: str, dtype: torch.dtype
) -> None:
    weight, inputs = gaussian(8, 64).to(dtype), statistics(activations(64))
    one = method(name).quantize([weight], inputs, Scheme(), [4])[4][0]
    other = method(name).quantize([weight.float()], inputs, Scheme(), [4])[4][0]
    assert one.codes.equal(other.codes)


@EACH
@pytest.mark.parametrize("bits", [16, 7, 1])
def test_a_width_without_codes_is_refused(name: str, bits: int) -> None:
    assert bits == 16 or bits not in WIDTHS
    with pytest.raises(SpecError, match="not among"):
        method(name).quantize(
            [gaussian(4, 64)], statistics(activations(64)), Scheme(), [4, bits]
        )


@EACH
def test_activations_that_are_not_finite_are_refused_or_ignored(name: str) -> None:
    inputs = statistics(activations(64))
    inputs.hessian[0, 0] = float("inf")
    try:
        (cell,) = method(name).quantize([gaussian(4, 64)], inputs, Scheme(), [4])[4]
    except ModelError:
        return
    plain = round_to_nearest(gaussian(4, 64), Scheme(), 4)
    assert dequantize(cell).equal(dequantize(plain))
