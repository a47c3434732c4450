"""Whether experts of one stack are solved faster at once than one by one.

`python -m studies.bank.experts_at_once` prints user seconds of 8 experts of one shape:
the whole solve of GPTQ one by one, and of its parts, factorization and loop over
columns, one by one and batched (same order of sums, same codes). One thread.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

from allocator.core.allocation import Scheme
from allocator.core.plugins import load
from quant.hessian import InputStatistics
from quant.methods._columns import Route
from quant.methods._sweep import SUB_BLOCK, sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

EXPERTS, WIDTHS = 8, (2, 3, 4, 8)
SHAPES, TIMES = ((64, 64), (256, 512), (768, 2048)), 3
LEVELS = 15.0


def seconds(work: Callable[[], object]) -> float:
    """User seconds of some work, median."""
    found = []
    for _ in range(TIMES):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return statistics.median(found)


def rounded(column: Tensor, scale: Tensor, pivot: Tensor) -> None:
    """A column's error over its pivot, in its place: what GPTQ's loop does."""
    step = (column / scale).round_().clamp_(-LEVELS, LEVELS)
    column.addcmul_(step, scale, value=-1).div_(pivot)


def alone(columns: Tensor, factor: Tensor, scale: Tensor) -> None:
    """The loop over the columns [in, rows] of one expert."""
    pivots = factor.diagonal().unbind()
    sweep(
        columns,
        factor,
        lambda at, column: rounded(column, scale, pivots[at]),
        0,
        len(columns),
    )


def batched(columns: Tensor, factor: Tensor, scale: Tensor) -> None:
    """The same for the columns [experts, in, rows] of several."""
    _batched(columns, factor, scale, 0, columns.shape[1])


def _batched(
    columns: Tensor, factor: Tensor, scale: Tensor, start: int, stop: int
) -> None:
    if stop - start <= SUB_BLOCK:
        for at in range(start, stop):
            rounded(columns[:, at], scale, factor[:, at, at].unsqueeze(1))
            rest = slice(at + 1, stop)
            columns[:, rest].addcmul_(
                factor[:, at, rest].unsqueeze(2),
                columns[:, at].unsqueeze(1),
                value=-1,
            )
        return
    half = SUB_BLOCK
    while 2 * half < stop - start:
        half *= 2
    done, rest = slice(start, start + half), slice(start + half, stop)
    _batched(columns, factor, scale, start, start + half)
    left = factor[:, done, rest].transpose(1, 2)
    columns[:, rest].baddbmm_(left, columns[:, done], alpha=-1)
    _batched(columns, factor, scale, start + half, stop)


def _measure(rows: int, features: int) -> None:
    torch.manual_seed(0)
    weights = [torch.randn(rows, features) for _ in range(EXPERTS)]
    inputs = []
    for _ in range(EXPERTS):
        each = InputStatistics.empty(features)
        each.add(torch.randn(2 * features, features))
        inputs.append(each)
    method = load("quant.methods", "gptq")

    def solve() -> None:
        for weight, each in zip(weights, inputs, strict=True):
            method.quantize([weight], each, Scheme(min(features, 128)), WIDTHS)

    hessians = [each.hessian for each in inputs]
    routes = [Route.of(each) for each in hessians]
    damped = torch.stack([route.hessian for route in routes])
    columns = torch.stack([w.T.repeat(1, len(WIDTHS)) for w in weights])
    scale = columns.abs().amax(1) / LEVELS
    factor = torch.stack([route.factor for route in routes])
    one, many = columns.clone(), columns.clone()
    for at in range(EXPERTS):
        alone(one[at], factor[at], scale[at])
    batched(many, factor, scale)
    moved = float((one - many).abs().max() / one.abs().max())

    def one_by_one() -> None:
        for each in zip(columns.clone(), factor, scale, strict=True):
            alone(*each)

    loops = [
        seconds(one_by_one),
        seconds(lambda: batched(columns.clone(), factor, scale)),
    ]
    cholesky = [
        seconds(lambda: [torch.linalg.cholesky(each) for each in damped]),
        seconds(lambda: torch.linalg.cholesky(damped)),
    ]
    factors = seconds(lambda: [Route.of(each) for each in hessians])
    print(
        f"{rows} x {features}: whole {seconds(solve):.3f} s; factors {factors:.3f} s, "
        f"of these Cholesky {cholesky[0]:.4f}, batched {cholesky[1]:.4f}; "
        f"loop {loops[0]:.3f} s, batched {loops[1]:.3f}; errors differ by {moved:.1e}",
        flush=True,
    )


def main() -> None:
    """Measure every shape."""
    torch.set_num_threads(1)
    for rows, features in SHAPES:
        _measure(rows, features)


if __name__ == "__main__":
    main()
