"""Loops over columns as one kernel a block of columns, on an NVIDIA GPU (Triton).

Started one by one, the steps of a column take longer to start than to compute. Rows do
not depend on each other, so a kernel takes some of them through all columns of a block,
which it holds in registers. It does what the loops in `quant.methods` do, in the same
order and in float32; only products and sums are rounded together.

Triton comes with torch for CUDA; `quant.chunks.kernels_for` says where this is used.
"""

# kernels have no types but Triton's, which need not be installed
# mypy: disable-error-code="import-not-found,misc,no-untyped-def,untyped-decorator"

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# columns and rows of a program: what its registers hold
COLUMNS, ROWS = 64, 32
# the same for a group that is rehearsed
REHEARSED, REHEARSED_ROWS = 128, 32
# adding and taking away 1.5 * 2**23 rounds numbers below 2**22 to the nearest, even
# ones where two are as near
MAGIC = tl.constexpr(12582912.0)


@triton.jit
def _rounded(value, least, most):
    """The nearest whole number between two whole numbers."""
    return (tl.minimum(tl.maximum(value, least), most) + MAGIC) - MAGIC


@triton.jit
def _solve(  # noqa: PLR0913, PLR0917
    columns,
    steps,
    factor,
    scale,
    least,
    most,
    rows,
    column_stride,
    step_stride,
    factor_stride,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    HEIGHT: tl.constexpr,
):
    row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
    at = tl.arange(0, WIDTH)
    own = row < rows
    place = at[:, None] * column_stride + row[None, :]
    there = (at < COUNT)[:, None] & own[None, :]
    tile = tl.load(columns + place, mask=there, other=0.0)
    size = tl.load(scale + row, mask=own, other=1.0)
    low = tl.load(least + row, mask=own, other=0.0)
    high = tl.load(most + row, mask=own, other=0.0)
    for number in range(COUNT):
        column = tl.sum(tl.where(at[:, None] == number, tile, 0.0), axis=0)
        step = _rounded(tl.div_rn(column, size), low, high)
        tl.store(steps + number * step_stride + row, step, mask=own)
        line = factor + number * factor_stride
        error = tl.div_rn(column - step * size, tl.load(line + number))
        behind = tl.load(line + at, mask=(at > number) & (at < COUNT), other=0.0)
        changed = tile - behind[:, None] * error[None, :]
        tile = tl.where(at[:, None] == number, error[None, :], changed)
    tl.store(columns + place, tile, mask=there)


@triton.jit
def _rehearse(  # noqa: PLR0913, PLR0917
    columns,
    factor,
    live,
    scale,
    least,
    most,
    loss,
    rows,
    column_stride,
    factor_stride,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    HEIGHT: tl.constexpr,
):
    row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
    at = tl.arange(0, WIDTH)
    own = row < rows
    place = at[:, None] * column_stride + row[None, :]
    there = (at < COUNT)[:, None] & own[None, :]
    tile = tl.load(columns + place, mask=there, other=0.0)
    grid = tl.program_id(1) * rows + row
    size = tl.load(scale + grid, mask=own, other=1.0)
    low = tl.load(least + grid, mask=own, other=0.0)
    high = tl.load(most + grid, mask=own, other=0.0)
    total = tl.zeros([HEIGHT], dtype=tl.float32)
    for number in range(COUNT):
        column = tl.sum(tl.where(at[:, None] == number, tile, 0.0), axis=0)
        step = _rounded(tl.div_rn(column, size), low, high)
        line = factor + number * factor_stride
        pivot = tl.load(line + number)
        error = tl.div_rn(column - step * size, pivot)
        total += tl.load(live + number) * error * error
        behind = tl.load(line + at, mask=(at > number) & (at < COUNT), other=0.0)
        tile -= behind[:, None] * error[None, :]
    tl.store(loss + grid, total, mask=own)


@triton.jit
def _settle(  # noqa: PLR0913, PLR0917
    pull,
    steps,
    hessian,
    scale,
    before,
    least,
    most,
    rows,
    pull_stride,
    step_stride,
    hessian_stride,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
    HEIGHT: tl.constexpr,
):
    row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
    at = tl.arange(0, WIDTH)
    own = row < rows
    place = at[:, None] * pull_stride + row[None, :]
    there = (at < COUNT)[:, None] & own[None, :]
    tile = tl.load(pull + place, mask=there, other=0.0)
    size = tl.load(scale + row, mask=own, other=1.0)
    was = tl.load(before + row, mask=own, other=1.0)
    low = tl.load(least + row, mask=own, other=0.0)
    high = tl.load(most + row, mask=own, other=0.0)
    for number in range(COUNT):
        column = tl.sum(tl.where(at[:, None] == number, tile, 0.0), axis=0)
        line = hessian + number * hessian_stride
        pivot = tl.load(line + number)
        mine = steps + number * step_stride + row
        old = tl.load(mine, mask=own, other=0.0)
        step = _rounded(old + tl.div_rn(tl.div_rn(column, pivot), size), low, high)
        tl.store(mine, step, mask=own)
        change = step * size - old * was
        behind = tl.load(line + at, mask=(at > number) & (at < COUNT), other=0.0)
        changed = tile - behind[:, None] * change[None, :]
        tile = tl.where(at[:, None] == number, change[None, :], changed)
    tl.store(pull + place, tile, mask=there)


@triton.jit
def _order(  # noqa: PLR0913, PLR0917
    matrix,
    chosen,
    span,
    ahead,
    stride,
    COUNT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    at = tl.arange(0, WIDTH)
    there = (at < COUNT)[:, None] & (at < COUNT)[None, :]
    rest = tl.load(matrix + at[:, None] * stride + at[None, :], mask=there, other=0.0)
    taken = (at >= COUNT).to(tl.int32)
    for number in range(COUNT):
        diagonal = tl.where(at[:, None] == at[None, :], rest, 0.0)
        pivots = tl.sum(diagonal, axis=0)
        inside = (at + ahead) // span == (number + ahead) // span
        free = inside & (taken == 0)
        row = tl.argmin(tl.where(free, pivots, float("inf")), axis=0)
        tl.store(chosen + number, row.to(tl.int64))
        pivot = tl.sum(tl.where(at == row, pivots, 0.0), axis=0)
        down = tl.sum(tl.where(at[None, :] == row, rest, 0.0), axis=1)
        across = tl.sum(tl.where(at[:, None] == row, rest, 0.0), axis=0)
        rest -= down[:, None] * (across / pivot)[None, :]
        taken = tl.where(at == row, 1, taken)


def width_of(columns: int, shared: int) -> int:
    """Columns of a block: a power of two, within one grid that so many share."""
    return COLUMNS if shared >= columns else math.gcd(COLUMNS, shared)


def solve_block(
    columns: Tensor,
    steps: Tensor,
    factor: Tensor,
    grid: tuple[Tensor, Tensor, Tensor],
    start: int,
    stop: int,
) -> None:
    """Round the columns of a block on one grid, in turn, each error handed on in it.

    Args:
        columns: [n, rows] float32; changed to errors over their pivots.
        steps: same shape; codes without zero-points are written.
        factor: [n, n], its upper triangle.
        grid: scale, lowest and highest step of each row, whole numbers, [rows] each.
        start: the first column.
        stop: behind the last one, at most `COLUMNS` on.
    """
    rows = columns.shape[1]
    _solve[(triton.cdiv(rows, ROWS),)](
        *_from(start, columns, steps, factor[:, start:]),
        *(part.contiguous() for part in grid),
        rows,
        *(columns.stride(0), steps.stride(0), factor.stride(0)),
        COUNT=stop - start,
        WIDTH=COLUMNS,
        HEIGHT=ROWS,
    )


def rehearse(
    columns: Tensor,
    factor: Tensor,
    live: Tensor,
    grids: tuple[Tensor, Tensor, Tensor],
    start: int,
    stop: int,
) -> Tensor:
    """Loss of a block alone on each of several grids; changes nothing.

    Args:
        columns: [n, rows] float32.
        factor: [n, n], its upper triangle.
        live: [n] 1 for columns whose errors count, else 0.
        grids: scale, lowest and highest step, [tries, rows] each.
        start: the first column.
        stop: behind the last one, at most `REHEARSED` on.

    Returns:
        [tries, rows] squared errors over squared pivots, added up.
    """
    rows, scale = columns.shape[1], grids[0].contiguous()
    loss = torch.empty_like(scale)
    _rehearse[(triton.cdiv(rows, REHEARSED_ROWS), len(scale))](
        *_from(start, columns, factor[:, start:]),
        live.contiguous()[start:],
        *(scale, grids[1].contiguous(), grids[2].contiguous(), loss),
        *(rows, columns.stride(0), factor.stride(0)),
        COUNT=stop - start,
        WIDTH=REHEARSED,
        HEIGHT=REHEARSED_ROWS,
    )
    return loss


def settle_block(
    pull: Tensor,
    steps: Tensor,
    hessian: Tensor,
    grid: tuple[Tensor, Tensor, Tensor, Tensor],
    start: int,
    stop: int,
) -> None:
    """Move the codes of a block to where their error is least, in turn.

    Args:
        pull: [n, rows] float32; changed to what each weight changed by.
        steps: same shape, codes without zero-points; changed.
        hessian: [n, n].
        grid: scale now and before, lowest and highest step of each row, [rows] each.
        start: the first column.
        stop: behind the last one, at most `COLUMNS` on.
    """
    rows = pull.shape[1]
    _settle[(triton.cdiv(rows, ROWS),)](
        *_from(start, pull, steps, hessian[:, start:]),
        *(part.contiguous() for part in grid),
        rows,
        *(pull.stride(0), steps.stride(0), hessian.stride(0)),
        COUNT=stop - start,
        WIDTH=COLUMNS,
        HEIGHT=ROWS,
    )


def smallest_first(matrix: Tensor, stops: Sequence[int]) -> Tensor:
    """`quant.ordering.smallest_first` of a matrix of up to 128 rows, where it lies."""
    size = len(matrix)
    # all spans are alike but those at the ends
    span = max(stops[0], *(after - at for at, after in pairwise(stops)), 1)
    chosen = torch.empty(size, dtype=torch.int64, device=matrix.device)
    _order[(1,)](
        *(*_from(0, matrix), chosen, span, span - stops[0], matrix.stride(0)),
        COUNT=size,
        WIDTH=triton.next_power_of_2(size),
        num_warps=16,
    )
    plain = torch.arange(size, device=matrix.device)
    whole = (chosen.sort().values == plain).all()
    return torch.where(whole, chosen, plain)


def _from(row: int, *matrices: Tensor) -> list[Tensor]:
    """Matrices from a row on, so that kernels count by small numbers."""
    assert all(matrix.stride(1) == 1 for matrix in matrices)
    return [matrix[row:] for matrix in matrices]
