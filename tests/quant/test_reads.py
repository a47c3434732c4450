"""What solving a sibling set waits for, on a device that computes ahead."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from allocator.core.allocation import Scheme
from allocator.core.plugins import load
from quant import hessian
from quant.hessian import InputStatistics
from quant.methods import awq
from tests.quant.reads import Counted, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from torch import Tensor


def unordered(matrix: Tensor, stops: Sequence[int]) -> Tensor:
    """In place of what is worked out on the CPU, wherever the matrix is."""
    del stops
    return torch.arange(len(matrix))


def work(name: str, rows: int, columns: int) -> Counted:
    """Two siblings at three widths."""
    seed = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=seed)

    weights = [normal(rows, columns) for _ in range(2)]
    inputs = InputStatistics.empty(columns)
    mixing = torch.eye(columns) + normal(columns, columns) / math.sqrt(columns)
    inputs.add(normal(2 * columns, columns) @ mixing)
    with counted() as mode:
        load("quant.methods", name).quantize(
            weights, inputs, Scheme(), [2, 3, 4], foldable=True
        )
    return mode


def test_reads_are_counted() -> None:
    with counted() as mode:
        matrix = torch.ones(3, 3)
        bool((matrix > 0).all())
        matrix.tolist()
        float(matrix.sum())
        matrix[matrix > 0] = 2
    assert mode.reads == 4


def test_gptq_waits_as_often_however_many_columns_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hessian, "smallest_first", unordered)
    short, long, high = (
        work("gptq", *shape) for shape in [(8, 128), (8, 512), (96, 128)]
    )
    assert short.reads == long.reads == high.reads <= 40
    # columns are what takes its steps
    assert long.launches > 3 * short.launches


def test_awq_waits_hardly_more_often_however_many_columns_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as on a device, which takes all rows at once
    monkeypatch.setattr(awq, "CPU_ROWS", awq.GPU_ROWS)
    # how many scales are tried depends on the weights
    assert all(
        work("awq", *shape).reads <= 200 for shape in [(8, 128), (8, 256), (96, 128)]
    )
