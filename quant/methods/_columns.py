"""GPTQ's loop over columns (arXiv 2210.17323, algorithm 1), for many rows at once.

A column is rounded, and the columns behind it make up for its error along the inverse
Hessian. Given the Hessian, rows do not depend on each other: a row here is one row of
any matrix that reads these inputs, at any width. Columns of a row-major matrix are
scattered, so all is held transposed.

As in auto-gptq, the grid of a group is fitted when the loop enters it, from weights
that carry the corrections so far. At 2 and 3 bits corrections are so large that they
would stretch the grid, and the grid make them larger: there the ends of a group are
those before the loop. With act-order the columns of a group are scattered over the
loop, so all grids are fitted before it (auto-gptq's `static_groups`).

A grid that cuts off the outermost weights is often better than one that holds them all.
Which one is no matter of rounding alone, since what is cut off is passed on as well. So
a group is rehearsed: its own columns are solved on grids of several ranges, and each
row keeps the grid that leaves the smallest loss. What a group passes on to others is
left out of that, and a group longer than a block is rehearsed block by block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from quant.grid import affine, has_real_zero, nearest
from quant.hessian import dead_inputs, inverse_factor
from quant.products import subtract_product_, weighted_sum

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from allocator.core.allocation import Scheme

# columns that are corrected one by one; further ones get matrix products. Group sizes
# are multiples of it, so a group starts on corrected weights
SUB_BLOCK = 16
# columns and rows that are rehearsed together. Each row comes RANGES times: fewer than
# the 32768 numbers from which torch wakes other threads for a pass over a column
BLOCK = 128
REHEARSED = 4096
# Ranges that are tried: range k, from 0 on, lacks k * SHRINK / 2**bits of the whole.
# Mean output error over that of the whole range, on activations that calibration did
# not see: the 101 linears of the embedded models, and gaussian layers of 1024 inputs,
# both in groups of 128: 2 bits 0.60 and 0.51, 3 bits 0.72 and 0.68, 4 bits 0.80 and
# 0.80. SHRINK 0.3 suits the former (0.59, 0.71, 0.79), 0.5 the latter (0.51, 0.66,
# 0.78); 11 ranges of half the steps gain 0.04. Without a rehearsal, by the error of
# rounding weighted with H_jj, with 1 / U_jj**2 and with the block of H, the former had
# 0.81, 0.83 and 0.80 at 2 bits, 0.91, 0.90 and 0.94 at 3, 0.99, 0.98 and 1.05 at 4
RANGES = 6
SHRINK = 0.4


@dataclass(frozen=True, eq=False)
class Route:
    """The inputs, in the order in which they are rounded.

    Attributes:
        order: [in] the index of each in the matrices.
        factor: [in, in] upper factor of the inverse Hessian, in this order.
        live: [in] 1 for inputs that calibration saw active, else 0, in this order.
        act_order: whether that is by falling diagonal of the Hessian.
    """

    order: Tensor
    factor: Tensor
    live: Tensor
    act_order: bool = False

    @staticmethod
    def of(hessian: Tensor, *, act_order: bool = False) -> Route:
        """Route through the inputs of a Hessian [in, in]; factors it.

        Raises:
            ModelError: activations were infinite or not numbers.
        """
        order = torch.arange(len(hessian), device=hessian.device)
        if act_order:
            order = hessian.diagonal().argsort(descending=True, stable=True)
        live = ~dead_inputs(hessian)[order]
        factor = inverse_factor(hessian, order=order)
        return Route(order, factor, live.to(factor.dtype), act_order)


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows to solve, transposed: a row here is a column (an input) of the matrices.

    Attributes:
        columns: [in, rows] floating point, in the order of the route; used up.
        levels: [rows] largest codes, same dtype, ascending.
        low: [n_groups, rows] smallest weights, same dtype, groups as in the matrices.
        high: same shape, largest weights.
        scheme: grid of all rows.
        route: order and Hessian.
        static: rows, the first ones, whose ends are not to be fitted again.
        searched: rows, the first ones, that try several ranges.
    """

    columns: Tensor
    levels: Tensor
    low: Tensor
    high: Tensor
    scheme: Scheme
    route: Route
    static: int
    searched: int

    @property
    def shared(self) -> int:
        """Neighbouring inputs that share one grid."""
        return self.scheme.columns(len(self.columns))


@dataclass(frozen=True, eq=False)
class Solution:
    """What all rows were rounded to.

    Attributes:
        codes: [rows, in] uint8, inputs as in the matrices.
        scale: [n_groups, rows], stored numbers in the dtype of the columns.
        zero: same shape, in code units.
        loss: [rows] output error under the damped Hessian: the squared errors that were
            passed on, added up over live inputs, which costs nothing.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    loss: Tensor


def solve(problem: Problem) -> Solution:
    """Round all columns."""
    columns, route, shared = problem.columns, problem.route, problem.shared
    codes = torch.empty_like(columns, dtype=torch.uint8)
    scale, zero = torch.empty_like(problem.low), torch.empty_like(problem.low)
    if route.act_order:
        for group in range(len(scale)):
            scale[group], zero[group] = _fit(problem, group)
    real_zero, order = has_real_zero(problem.scheme), route.order.tolist()
    pivots = route.factor.diagonal()

    def replace(at: int) -> None:
        group = order[at] // shared
        if at % shared == 0 and not route.act_order:
            _refit_ends(problem, group)
            scale[group], zero[group] = _fit(problem, group)
        column, grid = columns[at], (scale[group], zero[group])
        code = nearest(column, *grid, problem.levels, real_zero=real_zero)
        # to uint8 by way of int32: each of the two is quick, and one step is not
        codes[order[at]] = code.int()
        # the error over its pivot takes the place of the column
        column.sub_(code.sub_(grid[1]).mul_(grid[0])).div_(pivots[at])

    _sweep(columns, route.factor, replace, 0, len(columns))
    loss = weighted_sum(route.live, columns.square_())
    return Solution(codes.T.contiguous(), scale, zero, loss)


def _sweep(
    columns: Tensor,
    factor: Tensor,
    replace: Callable[[int], None],
    start: int,
    stop: int,
) -> None:
    """Replace columns by their errors, from left to right, correcting those behind.

    Half of a span is done first and all its errors reach the other half in one matrix
    product: few and large products, and each error is kept in the place of the column
    that it belongs to. Halves are powers of two, so no group lies across a cut before
    it is entered.
    """
    if stop - start <= SUB_BLOCK:
        for at in range(start, stop):
            replace(at)
            if at + 1 < stop:
                rest = slice(at + 1, stop)
                columns[rest].addr_(factor[at, rest], columns[at], alpha=-1)
        return
    half = SUB_BLOCK
    while 2 * half < stop - start:
        half *= 2
    done, rest = slice(start, start + half), slice(start + half, stop)
    _sweep(columns, factor, replace, start, start + half)
    subtract_product_(columns[rest], factor[done, rest].T, columns[done])
    _sweep(columns, factor, replace, start + half, stop)


def _refit_ends(problem: Problem, group: int) -> None:
    """Ends of a group that the loop has reached, where they are not static."""
    start = group * problem.shared
    columns = problem.columns[start : start + problem.shared, problem.static :]
    if columns.numel():
        problem.low[group, problem.static :] = columns.amin(0)
        problem.high[group, problem.static :] = columns.amax(0)


def _fit(problem: Problem, group: int) -> tuple[Tensor, Tensor]:
    """Scale and zero-point of a group in each row, [rows]."""
    ends = problem.low[group], problem.high[group]
    scale, zero = affine(*ends, problem.levels, problem.scheme)
    for start in range(0, problem.searched, REHEARSED):
        rows = slice(start, min(start + REHEARSED, problem.searched))
        scale[rows], zero[rows] = _search(problem, group, rows)
    return scale, zero


def _search(problem: Problem, group: int, rows: slice) -> tuple[Tensor, Tensor]:
    """Scale and zero-point of the range that loses least, for each of some rows."""
    levels = problem.levels[rows]
    steps = torch.arange(RANGES, device=levels.device).unsqueeze(1)
    shares = 1 - steps * SHRINK / (levels + 1)
    low, high = problem.low[group, rows], problem.high[group, rows]
    # [RANGES, rows] as all that follows
    scale, zero = affine(low * shares, high * shares, levels, problem.scheme)
    inside = (problem.route.order // problem.shared == group).nonzero().flatten()
    loss = torch.zeros_like(shares)
    for block in torch.split(inside, BLOCK):
        loss += _rehearse(problem, block, rows, (scale, zero))
    best = loss.argmin(0, keepdim=True)
    return scale.gather(0, best)[0], zero.gather(0, best)[0]


def _rehearse(
    problem: Problem, block: Tensor, rows: slice, grids: tuple[Tensor, Tensor]
) -> Tensor:
    """Loss of some columns alone, in some rows, on each of their grids.

    Nobody reads the codes, so they are left without their zero-point, and errors
    without their factor: what takes the time here are passes over the columns.
    """
    columns = problem.columns[block, rows].repeat(1, RANGES)
    factor = problem.route.factor[block][:, block]
    pivots = factor.diagonal()
    scale, zero = (part.flatten().to(columns.dtype) for part in grids)
    least, most = -zero, problem.levels[rows].repeat(RANGES) - zero

    def replace(at: int) -> None:
        code = (columns[at] / scale).round_().clamp_(least, most)
        columns[at].sub_(code.mul_(scale))

    _sweep(columns, factor / pivots.unsqueeze(1), replace, 0, len(columns))
    weights = problem.route.live[block] / pivots.square()
    return weighted_sum(weights, columns.square_()).view(RANGES, -1)
