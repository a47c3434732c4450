"""GPTQ (arXiv 2210.17323): round column by column, and let the rest make up for it.

The columns that are not yet rounded absorb the error of those that are, along the
inverse Hessian of the inputs. As in auto-gptq without act-order, the grid of a group is
fitted when the loop enters it, from weights that already carry corrections. At 2 and 3
bits corrections are so large that they would stretch the grid, and the grid make them
larger: there groups get their grids before the loop (auto-gptq's `static_groups`).

An input that calibration never saw active has nothing to pass on or take up: its
weights are rounded to nearest. (GPTQ sets them to zero, which costs nothing on the
calibration inputs and everything once such an input speaks.)

Given the Hessian, rows do not depend on each other. So all siblings, each at every
width, are rows of one tall problem that is solved in one pass with one factor; and the
columns of a row-major matrix are scattered, so it is held transposed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from quant.grid import (
    Cell,
    affine,
    check_widths,
    dequantize,
    has_real_zero,
    nearest,
    round_to_nearest,
)
from quant.hessian import dead_inputs, inverse_factor, total_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Method
    from quant.hessian import InputStatistics

# corrections beyond a block, and within it beyond a sub-block, are one matrix product;
# group sizes are multiples of the sub-block, so a group starts on corrected weights
BLOCK = 128
SUB_BLOCK = 16
# Measured output error over that of rounding, gaussian weights in groups of 128, fitted
# on entering and before: 2 bits 1.30 and 0.62, 3 bits 0.68 and 0.58, 4 bits 0.60 and
# 0.58, 8 bits 0.56 and 0.57; in groups of 32 the first is ahead by 4 % from 4 bits on
STATIC_BITS = 3


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows of one matrix at one width in the tall problem."""

    weight: Tensor
    bits: int
    rows: slice


@dataclass(frozen=True, eq=False)
class _Problem:
    """All parts, transposed: a row here is a column (an input) of the matrices.

    Attributes:
        columns: [in, rows] float32, overwritten while solving.
        levels: [rows] float32, the largest code of each row.
        parts: which rows are what.
        scheme: grid of all of them.
    """

    columns: Tensor
    levels: Tensor
    parts: tuple[_Part, ...]
    scheme: Scheme

    def fit(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero-point [rows] float32 of the inputs [columns, rows]."""
        low, high = group.amin(0), group.amax(0)
        if self.scheme.group_size == "tensor":
            for part in self.parts:
                low[part.rows] = low[part.rows].min()
                high[part.rows] = high[part.rows].max()
        scale, zero = affine(low, high, self.levels, self.scheme)
        return scale.float(), zero

    def fit_all(self, shared: int) -> list[tuple[Tensor, Tensor]]:
        """Grids of all groups of `shared` inputs, from weights as they are now."""
        starts = range(0, len(self.columns), shared)
        return [self.fit(self.columns[at : at + shared]) for at in starts]

    def refit(self, grid: tuple[Tensor, Tensor], group: Tensor) -> None:
        """Replace a grid, in the rows of more than `STATIC_BITS`, by a new one."""
        moving = self.levels >= 2**STATIC_BITS
        for old, new in zip(grid, self.fit(group), strict=True):
            old.copy_(torch.where(moving, new, old))


@dataclass(frozen=True, eq=False)
class _Solution:
    """What all columns were rounded to.

    Attributes:
        codes: [in, rows] uint8.
        scale: [n_groups, rows] float32.
        zero: [n_groups, rows] float32.
        loss: [rows] output error under the damped Hessian: the squared errors that were
            passed on, added up over live inputs, which costs nothing.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor
    loss: Tensor


class Gptq:
    """GPTQ, one factorization for all siblings and widths."""

    version = 1

    @torch.no_grad()
    def quantize(
        self,
        weights: Sequence[Tensor],
        inputs: InputStatistics,
        scheme: Scheme,
        widths: Sequence[int],
        *,
        foldable: bool = False,
    ) -> dict[int, list[Cell]]:
        """Cells of each width, none worse on the calibration inputs than rounding.

        Args:
            weights: matrices [out_i, in]; not modified.
            inputs: statistics of the inputs they all read.
            scheme: group size and symmetry.
            widths: of 2, 3, 4, 5, 6, 8.
            foldable: not used.

        Raises:
            SpecError: another width, or weights that do not read these inputs.
            ModelError: weights or activations that are not finite.
        """
        del foldable  # nothing to fold: GPTQ leaves the inputs as they are
        check_widths(widths)
        inputs.check(weights)
        cells: dict[int, list[Cell]] = {bits: [] for bits in widths}
        if not (weights and widths):
            return cells
        hessian = inputs.hessian.to(weights[0].device)
        problem = _stack(weights, widths, scheme)
        solution = _solve(problem, inverse_factor(hessian), ~dead_inputs(hessian))
        for part in problem.parts:
            cell = _cell(part, solution, scheme)
            loss = float(solution.loss[part.rows].sum())
            cells[part.bits].append(
                _not_worse(cell, loss, part.weight, hessian, scheme)
            )
        return cells


def _stack(
    weights: Sequence[Tensor], widths: Sequence[int], scheme: Scheme
) -> _Problem:
    """Every matrix at every width as rows of one problem."""
    parts: list[_Part] = []
    start = 0
    for bits in widths:
        for weight in weights:
            stop = start + len(weight)
            parts.append(_Part(weight, bits, slice(start, stop)))
            start = stop
    columns = torch.cat([part.weight.float().T for part in parts], dim=1)
    levels = torch.empty(start, device=columns.device)
    for part in parts:
        levels[part.rows] = 2.0**part.bits - 1
    return _Problem(columns, levels, tuple(parts), scheme)


def _solve(problem: _Problem, factor: Tensor, live: Tensor) -> _Solution:
    """Round all columns.

    Args:
        problem: is used up.
        factor: [in, in] upper factor of the inverse Hessian.
        live: [in] bool, inputs that were not always zero.
    """
    columns = problem.columns
    shared = problem.scheme.columns(len(columns))
    codes = torch.empty_like(columns, dtype=torch.uint8)
    loss = torch.zeros_like(problem.levels)
    grids = problem.fit_all(shared)
    for start in range(0, len(columns), BLOCK):
        stop = min(start + BLOCK, len(columns))
        errors = torch.empty_like(columns[start:stop])
        for at in range(start, stop, SUB_BLOCK):
            grid = grids[at // shared]
            if at % shared == 0:
                problem.refit(grid, columns[at : at + shared])
            here = slice(at, min(at + SUB_BLOCK, stop))
            made = errors[at - start : here.stop - start]
            _round_columns(problem, grid, factor[here, here], here, codes, made)
            rest = slice(here.stop, stop)
            columns[rest].addmm_(factor[here, rest].T, made, alpha=-1)
        columns[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
        loss += live[start:stop].float() @ errors.square_()
    scale, zero = (torch.stack(part) for part in zip(*grids, strict=True))
    return _Solution(codes, scale, zero, loss)


def _round_columns(
    problem: _Problem,
    grid: tuple[Tensor, Tensor],
    factor: Tensor,
    here: slice,
    codes: Tensor,
    errors: Tensor,
) -> None:
    """Round a sub-block one column after the other, correcting the rest of it.

    Writes the codes of `here` and the scaled error of each column, (w - q) / U_jj.
    """
    scale, zero = grid
    real_zero = has_real_zero(problem.scheme)
    block = problem.columns[here]
    for index, column in enumerate(block):
        code = nearest(column, scale, zero, problem.levels, real_zero=real_zero)
        codes[here.start + index] = code
        error = (column - (code - zero) * scale) / factor[index, index]
        errors[index] = error
        block[index + 1 :].addr_(factor[index, index + 1 :], error, alpha=-1)


def _cell(part: _Part, solution: _Solution, scheme: Scheme) -> Cell:
    """Cut one matrix at one width out of the solution."""
    scale = solution.scale[:, part.rows].T.half()
    zero = solution.zero[:, part.rows].T
    if scheme.group_size == "tensor":
        scale, zero = scale[:1], zero[:1]
    stored = torch.float16 if has_real_zero(scheme) else torch.uint8
    return Cell(
        codes=solution.codes[:, part.rows].T.contiguous(),
        scale=scale.contiguous(),
        zero=None if scheme.symmetric else zero.to(stored).contiguous(),
        columns=scheme.columns(part.weight.shape[1]),
        bits=part.bits,
    )


def _not_worse(
    cell: Cell, loss: float, weight: Tensor, hessian: Tensor, scheme: Scheme
) -> Cell:
    """The cell, or plain rounding where that has the smaller output error.

    Rounding wins at times at 2 bits, or after little calibration. `loss` is an upper
    bound of the cell's error, since damping only adds; mostly that is enough to know.
    """
    plain = round_to_nearest(weight, scheme, cell.bits)
    original = weight.float()
    rounded = total_error(dequantize(plain) - original, hessian, limit=loss)
    if loss < rounded or rounded >= total_error(dequantize(cell) - original, hessian):
        return cell
    return replace(plain, fallback="uniform")


PLUGIN: Method = Gptq()
