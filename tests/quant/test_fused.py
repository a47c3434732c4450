"""The kernels of a GPU: by Triton's interpreter where there is none."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Scheme
from quant import ordering
from quant.grid import dequantize
from quant.hessian import InputStatistics, total_error
from quant.methods import _columns, _polish
from quant.methods.awq import Awq
from quant.methods.gptq import Gptq
from quant.ordering import smallest_first

if TYPE_CHECKING:
    from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def fused() -> Any:
    if DEVICE == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")
    pytest.importorskip(
        "triton", reason="Triton is not installed: it has a GPU's kernels"
    )
    from quant import fused

    return fused


def normal(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.to(DEVICE)


def statistics(features: int) -> InputStatistics:
    inputs = InputStatistics.empty(features, DEVICE)
    mixing = (
        torch.eye(features, device=DEVICE) + normal(features, features, seed=1) / 16
    )
    loud = torch.exp(0.5 * normal(1, features, seed=2))
    inputs.add(normal(4 * features, features, seed=3) @ mixing * loud)
    return inputs


def grid(rows: int, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    zero = torch.arange(rows, device=DEVICE).remainder(2**bits).float()
    return 0.1 + 0.3 * normal(rows, seed=4).abs(), -zero, 2**bits - 1 - zero


def triangle(size: int) -> Tensor:
    return torch.triu(0.1 * normal(size, size, seed=5), 1) + 1.5 * torch.eye(
        size, device=DEVICE
    )


@pytest.mark.parametrize(("start", "stop"), [(0, 32), (32, 96), (96, 100)])
def test_a_block_is_solved_column_by_column(fused: Any, start: int, stop: int) -> None:
    columns, factor, (scale, low, high) = normal(100, 70), triangle(100), grid(70, 2)
    wanted, codes = columns.clone(), torch.zeros_like(columns)
    for at in range(start, stop):
        codes[at] = (wanted[at] / scale).round().maximum(low).minimum(high)
        wanted[at] = (wanted[at] - codes[at] * scale) / factor[at, at]
        rest = slice(at + 1, stop)
        wanted[rest] -= torch.outer(factor[at, rest], wanted[at])
    steps = torch.zeros_like(columns)
    fused.solve_block(columns, steps, factor, (scale, low, high), start, stop)
    assert torch.equal(steps, codes)
    torch.testing.assert_close(columns, wanted)


def test_a_block_is_rehearsed_on_every_grid(fused: Any) -> None:
    columns, factor = normal(70, 20), triangle(70)
    live = torch.arange(70, device=DEVICE).remainder(3).clamp(max=1).float()
    grids = [torch.stack(part) for part in zip(grid(20, 2), grid(20, 3), strict=True)]
    before = columns.clone()
    found = fused.rehearse(columns, factor, live, tuple(grids), 0, 70)
    assert torch.equal(columns, before)
    for at in range(2):
        errors, steps = columns.clone(), torch.zeros_like(columns)
        own = tuple(part[at] for part in grids)
        for start, stop in ((0, 64), (64, 70)):
            fused.solve_block(errors, steps, factor, own, start, stop)
            errors[stop:] -= factor[start:stop, stop:].T @ errors[start:stop]
        wanted = (live.unsqueeze(1) * errors.square()).sum(0)
        torch.testing.assert_close(found[at], wanted)


def test_a_block_settles_column_by_column(fused: Any) -> None:
    pull, hessian = normal(80, 50), statistics(80).hessian
    scale, low, high = grid(50, 3)
    before = 1.1 * scale
    steps = (3 * normal(80, 50, seed=7)).round().maximum(low).minimum(high)
    wanted, codes = pull.clone(), steps.clone()
    for at in range(16, 80):
        old = codes[at].clone()
        step = old + wanted[at] / hessian[at, at] / scale
        codes[at] = step.round().maximum(low).minimum(high)
        wanted[at] = codes[at] * scale - old * before
        rest = slice(at + 1, 80)
        wanted[rest] -= torch.outer(hessian[at, rest], wanted[at])
    fused.settle_block(pull, steps, hessian, (scale, before, low, high), 16, 80)
    assert torch.equal(steps, codes)
    torch.testing.assert_close(pull, wanted)


@pytest.mark.parametrize("stops", [[24], [8, 16, 24], [4, 12, 20, 24]])
def test_the_order_of_pivots_is_found_where_the_matrix_is(
    fused: Any, stops: list[int]
) -> None:
    matrix = statistics(24).hessian.double()
    found = fused.smallest_first(matrix, stops)
    assert found.tolist() == smallest_first(matrix.cpu(), stops).tolist()
    matrix[3, 3] = math.nan
    assert sorted(fused.smallest_first(matrix, stops).tolist()) == list(range(24))


def agree(
    fused: Any,
    method: Any,
    sizes: tuple[int, int],
    scheme: Scheme,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cells of a layer with and without the kernels are alike but for near-ties."""
    weight, inputs = normal(*sizes, seed=8), statistics(sizes[1])
    on_cpu = InputStatistics(inputs.hessian.cpu(), inputs.mean_abs.cpu(), inputs.tokens)
    ((wanted,),) = method.quantize([weight.cpu()], on_cpu, scheme, [2]).values()
    for module in (ordering, _columns, _polish):
        monkeypatch.setattr(module, "kernels_for", lambda _: fused)
    ((found,),) = method.quantize([weight], inputs, scheme, [2]).values()
    assert float((found.codes.cpu() == wanted.codes).double().mean()) > 0.99
    errors = [
        total_error(dequantize(cell).to(DEVICE) - weight, inputs.hessian)
        for cell in (found, wanted)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)


@pytest.mark.parametrize("method", [Gptq(), Awq()], ids=["gptq", "awq"])
def test_cells_are_those_without_kernels(
    fused: Any, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(fused, method, (8, 64), Scheme(32), monkeypatch)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")
@pytest.mark.parametrize("scheme", [Scheme(), Scheme(32), Scheme("channel")], ids=str)
@pytest.mark.parametrize("method", [Gptq(), Awq()], ids=["gptq", "awq"])
def test_cells_on_a_gpu_are_those_of_the_cpu_but_for_near_ties(
    fused: Any, method: Any, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(fused, method, (300, 1024), scheme, monkeypatch)
