"""GPTQ's loop over columns (arXiv 2210.17323, algorithm 1), for many rows at once.

A column is rounded, and the columns behind it make up for its error along the inverse
Hessian. Given the Hessian, rows do not depend on each other: a row here is one row of
any matrix that reads these inputs, at any width. Columns of a row-major matrix are
scattered, so all is held transposed.

Inputs of one grid stay together, and groups as well as inputs come in an order in
which the last ones cost least (`quant.ordering`). As in auto-gptq, the grid of a group
is fitted when the loop enters it, from weights that carry the corrections so far. At 2
and 3 bits corrections are so large that they would stretch the grid, and the grid make
them larger: there the ends of a group are those before the loop.

A grid that cuts off the outermost weights is often better than one that holds them all.
Which one is no matter of rounding alone, since what is cut off is passed on as well. So
a group is rehearsed: its own columns are solved on grids of several ranges, and each
row keeps the grid that leaves the smallest loss. What a group passes on to others is
left out of that, and a group longer than a block is rehearsed block by block. Rows that
are searched are polished in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from quant.chunks import at_once, kernels_for
from quant.grid import affine, has_real_zero
from quant.hessian import dead_inputs, factored
from quant.methods._polish import Placed, polish, pull_of
from quant.methods._sweep import Blocks, sweep
from quant.products import weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

    from allocator.core.allocation import Scheme

# columns and rows that are rehearsed together. Each row comes RANGES times: on a CPU
# fewer than the 32768 numbers from which torch wakes other threads for a pass over a
# column; elsewhere starting a pass costs more than the pass
BLOCK = 128
REHEARSED, DEVICE_REHEARSED = 4096, 2**17
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
        order: [in] the index of each in the matrices, where groups stay together.
        factor: [in, in] upper factor of the inverse of the damped Hessian, in this
            order as all that follows.
        live: [in] 1 for inputs that calibration saw active, else 0.
        hessian: [in, in] the damped Hessian.
    """

    order: Tensor
    factor: Tensor
    live: Tensor
    hessian: Tensor

    @staticmethod
    def of(hessian: Tensor, order: Tensor | None = None, span: int = 1) -> Route:
        """Route through the inputs of a Hessian [in, in]; factors it.

        Args:
            hessian: [in, in].
            order: [in] indices; None: inputs as the matrices have them.
            span: neighbours in that order that may change places, see
                `quant.hessian.factored`.

        Raises:
            ModelError: activations were infinite or not numbers.
        """
        if order is None:
            order = torch.arange(len(hessian), device=hessian.device)
        found = factored(hessian, order, span=span)
        damped = hessian[found.order][:, found.order]
        damped.diagonal().copy_(found.diagonal)
        live = ~dead_inputs(hessian)[found.order]
        return Route(found.order, found.factor, live.to(hessian.dtype), damped)


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows to solve, transposed: a row here is a column (an input) of the matrices.

    Attributes:
        columns: [in, rows] floating point, in the order of the route; used up.
        levels: [rows] largest codes, same dtype, ascending.
        low: [n_groups, rows] smallest weights, same dtype, in the order of the route.
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
        scale: [n_groups, rows], groups as in the matrices, stored numbers in the dtype
            of the columns.
        zero: same shape, in code units.
        loss: [rows] output error under the damped Hessian, or more: the squared errors
            that were passed on, added up over live inputs, which costs nothing.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    loss: Tensor


def solve(problem: Problem) -> Solution:
    """Round all columns."""
    columns, route, levels = problem.columns, problem.route, problem.levels
    steps, scales = torch.empty_like(columns), torch.empty_like(problem.low)
    zeros, real_zero = torch.empty_like(scales), has_real_zero(problem.scheme)
    pivots, taken = route.factor.diagonal().unbind(), steps.unbind()
    scale = least = most = levels

    def enter(at: int) -> None:
        nonlocal scale, least, most
        group, inside = divmod(at, problem.shared)
        if not inside:
            _refit_ends(problem, group)
            scales[group], zeros[group] = _fit(problem, group)
            scale, least = scales[group], -zeros[group]
            most = levels + least

    def replace(at: int, column: Tensor) -> None:
        enter(at)
        step = torch.div(column, scale, out=taken[at])
        # an integer zero-point is no matter of rounding, as in `quant.grid.nearest`
        step = step.sub_(least).round_().add_(least) if real_zero else step.round_()
        torch.minimum(torch.maximum(step, least, out=step), most, out=step)
        # the error over its pivot takes the place of the column
        column.addcmul_(step, scale, value=-1).div_(pivots[at])

    def together(start: int, stop: int) -> None:
        enter(start)
        grid = scale, least, most
        kernels.solve_block(columns, steps, route.factor, grid, start, stop)

    kernels: Any = None if real_zero else _kernels(problem)
    blocks = None
    if kernels:
        blocks = Blocks(kernels.width_of(len(columns), problem.shared), together)
    sweep(columns, route.factor, replace, 0, len(columns), blocks=blocks)
    if problem.searched:
        some = slice(problem.searched)
        placed = Placed(steps[:, some], scales[:, some], zeros[:, some], levels[some])
        pull = pull_of(columns[:, some].clone(), route.factor)
        polish(placed, pull, route.hessian, route.live, problem.scheme)
    loss = weighted_sum(route.live, columns.square_())
    return Solution(*_in_matrices(problem, steps, scales, zeros), loss)


def _kernels(problem: Problem) -> Any:
    """The kernels that solve a problem, where there are some."""
    single = problem.columns.dtype == torch.float32
    return kernels_for(problem.columns) if single else None


def _in_matrices(
    problem: Problem, steps: Tensor, scales: Tensor, zeros: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales and zero-points in the order of the matrices; uses up the steps."""
    shared, order = problem.shared, problem.route.order
    codes = torch.empty_like(steps, dtype=torch.uint8)
    for group, zero in enumerate(zeros):
        here = slice(group * shared, group * shared + shared)
        # to uint8 by way of int32: each of the two is quick, and one step is not
        codes[order[here]] = steps[here].add_(zero).round_().int().to(torch.uint8)
    # group by group, so the first of each tells which it is
    back = order[::shared].argsort()
    return codes.T.contiguous(), scales[back], zeros[back]


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
    most = at_once(scale, REHEARSED, DEVICE_REHEARSED)
    for start in range(0, problem.searched, most):
        rows = slice(start, min(start + most, problem.searched))
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
    loss = torch.zeros_like(shares)
    stop = (group + 1) * problem.shared
    for start in range(stop - problem.shared, stop, BLOCK):
        block = slice(start, min(start + BLOCK, stop))
        loss += _rehearse(problem, block, rows, (scale, zero))
    best = loss.argmin(0, keepdim=True)
    return scale.gather(0, best)[0], zero.gather(0, best)[0]


def _rehearse(
    problem: Problem, block: slice, rows: slice, grids: tuple[Tensor, Tensor]
) -> Tensor:
    """Loss of some columns alone, in some rows, on each of their grids.

    Nobody reads the codes, so they are left without their zero-point, and errors
    without their factor: what takes the time here are passes over the columns.
    """
    kernels = _kernels(problem)
    if kernels:
        scale, zero = (part.to(problem.columns.dtype) for part in grids)
        bounds = scale, -zero, problem.levels[rows] - zero
        of = problem.columns[:, rows], problem.route.factor, problem.route.live
        loss: Tensor = kernels.rehearse(*of, bounds, block.start, block.stop)
        return loss
    columns = problem.columns[block, rows].repeat(1, RANGES)
    factor = problem.route.factor[block, block]
    pivots = factor.diagonal()
    scale, zero = (part.flatten().to(columns.dtype) for part in grids)
    least, most = -zero, problem.levels[rows].repeat(RANGES) - zero

    def replace(_: int, column: Tensor) -> None:
        step = (column / scale).round_()
        torch.minimum(torch.maximum(step, least, out=step), most, out=step)
        column.addcmul_(step, scale, value=-1)

    sweep(columns, factor / pivots.unsqueeze(1), replace, 0, len(columns))
    weights = problem.route.live[block] / pivots.square()
    return weighted_sum(weights, columns.square_()).view(RANGES, -1)
