from __future__ import annotations

import pytest
import torch

from allocator.core.allocation import Scheme
from allocator.core.errors import SpecError
from quant.grid import LOW_WIDTHS, dequantize, round_to_nearest
from quant.hessian import InputStatistics
from quant.methods.uniform import PLUGIN


def gaussian(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def test_every_matrix_is_rounded_on_its_own() -> None:
    weights = [gaussian(4, 64), 10 * gaussian(6, 64)]
    cells = PLUGIN.quantize(weights, InputStatistics.empty(64), Scheme("tensor"), [3])
    for cell, weight in zip(cells[3], weights, strict=True):
        assert cell.codes.equal(round_to_nearest(weight, Scheme("tensor"), 3).codes)


def test_the_inputs_make_no_difference() -> None:
    inputs = InputStatistics.empty(64)
    inputs.add(gaussian(10, 64))
    weights = [gaussian(4, 64)]
    one = PLUGIN.quantize(weights, inputs, Scheme(), [2], foldable=True)
    other = PLUGIN.quantize(weights, InputStatistics.empty(64), Scheme(), [2])
    assert one[2][0].codes.equal(other[2][0].codes)


@pytest.mark.parametrize("group", [128, "channel", "tensor"])
def test_two_more_bits_quarter_the_error(group: int | str) -> None:
    weight = gaussian(64, 256)
    cells = PLUGIN.quantize(
        [weight], InputStatistics.empty(256), Scheme(group), LOW_WIDTHS
    )
    error = {
        bits: float((dequantize(cell) - weight).square().mean().sqrt())
        for bits, (cell,) in cells.items()
    }
    # the step of 6 bits is (2**6 - 1) / (2**4 - 1) = 4.2 times that of 4
    assert error[4] / error[6] == pytest.approx(63 / 15, rel=0.05)


def test_a_parameter_that_wants_gradients_leaves_none_on_the_cell() -> None:
    weight = torch.nn.Parameter(gaussian(4, 64))
    cells = PLUGIN.quantize([weight], InputStatistics.empty(64), Scheme(), [4])
    assert not cells[4][0].scale.requires_grad


def test_a_width_without_codes_is_refused() -> None:
    with pytest.raises(SpecError, match=r"widths \[16\] are not among"):
        PLUGIN.quantize([gaussian(4, 64)], InputStatistics.empty(64), Scheme(), [4, 16])
