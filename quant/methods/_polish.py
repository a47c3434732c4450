"""Polish: scales and codes once more, each with all the others in view.

When GPTQ rounds a column it knows those before it, and when it fits a grid it knows
none of its codes. Once all is rounded, each number of a row can go where the output
error is least while the others stand, and no step makes it larger: group by group its
scale, in closed form, then its codes, column by column (coordinate descent, as in
QuantEase, arXiv 2309.01885). AWQ, which rounds to nearest, gains more by it than GPTQ.

An error D of weights, transposed, pulls at the weights with -H D, half the falling
gradient of tr(D^T H D). As GPTQ's loop hands on errors, so this one hands on changes: a
column is replaced by its change, and those behind it feel H times that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from quant.chunks import at_once, kernels_for
from quant.grid import ENDS, by_group, scale_dtype
from quant.hessian import dead_inputs
from quant.methods._sweep import Blocks, sweep
from quant.products import product, subtract_product_

if TYPE_CHECKING:
    from torch import Tensor

    from allocator.core.allocation import Scheme
    from quant.grid import Cell

# rows and columns that are solved for at once: `quant.hessian` has the reason
BLOCK = 128
# Up to these bits cells of AWQ are polished. What is left of the mean output error on
# activations that calibration did not see, the 101 linears of the embedded models in
# groups of 128, of 32, and a gaussian layer of 1024 inputs: 2 bits 0.50, 0.55 and 0.93,
# 3 bits 0.52, 0.54 and 0.94, 4 bits 0.52, 0.55 and 0.95; of GPTQ, whose rows are those
# with searched ranges, 0.94, 0.88 and 0.96, 0.97, 0.92 and 0.97, 0.97, 0.93 and 0.97.
# A second pass would leave 0.99 and 0.97 of that of GPTQ, 0.87 of that of AWQ
POLISHED_BITS = 4
# rows of a cell at once, on a CPU and elsewhere
ROWS, DEVICE_ROWS = 512, 2**15


@dataclass(frozen=True, eq=False)
class Placed:
    """Rows that were rounded, transposed, their inputs in any order of the groups.

    Attributes:
        steps: [in, rows] codes without their zero-points, floating point; changed.
        scale: [n_groups, rows], stored numbers in that dtype; changed.
        zero: same shape, whole numbers.
        levels: [rows] largest codes, same dtype.
    """

    steps: Tensor
    scale: Tensor
    zero: Tensor
    levels: Tensor


def polish(
    placed: Placed, pull: Tensor, hessian: Tensor, live: Tensor, scheme: Scheme
) -> None:
    """Set each scale, then its codes, to where the output error is least.

    Args:
        placed: what is there; changed.
        pull: [in, rows], minus the Hessian times the errors of the weights; used up.
        hessian: [in, in] in the same order, of a positive diagonal.
        live: [in] 1 for inputs that matter to scales, else 0.
        scheme: grid of all rows, not of a whole matrix.
    """
    steps, shared = placed.steps.unbind(), scheme.columns(len(hessian))
    softness = hessian.diagonal().reciprocal().tolist()
    scale = before = per_step = least = most = placed.levels

    def enter(at: int) -> None:
        nonlocal scale, before, per_step, least, most
        group, inside = divmod(at, shared)
        if not inside:
            here = slice(at, at + shared)
            scale, before = placed.scale[group], placed.scale[group].clone()
            block = hessian[here, here]
            _refit(placed.steps[here], scale, pull[here], block, live[here], scheme)
            per_step, least = scale.reciprocal(), -placed.zero[group]
            most = placed.levels + least

    def settle(at: int, column: Tensor) -> None:
        enter(at)
        old = steps[at]
        step = torch.addcmul(old, column, per_step, value=softness[at]).round_()
        torch.minimum(torch.maximum(step, least, out=step), most, out=step)
        torch.mul(step, scale, out=column).addcmul_(old, before, value=-1)
        old.copy_(step)

    def together(start: int, stop: int) -> None:
        enter(start)
        grid = scale, before, least, most
        kernels.settle_block(pull, placed.steps, hessian, grid, start, stop)

    kernels: Any = kernels_for(pull) if pull.dtype == torch.float32 else None
    blocks = Blocks(kernels.width_of(len(pull), shared), together) if kernels else None
    sweep(pull, hessian, settle, 0, len(hessian), blocks=blocks)


def polished(
    cell: Cell, weight: Tensor, scale: Tensor, hessian: Tensor, scheme: Scheme
) -> Cell:
    """A cell with its scales and codes polished; zero-points stay.

    Its output error is not larger than it was: nothing is damped.

    Args:
        cell: of weights times a scale of their inputs, not of one grid for a matrix.
        weight: [out, in].
        scale: [in] float32, positive.
        hessian: [in, in] float32.
        scheme: its grid.
    """
    hessian = hessian / torch.outer(scale, scale)
    dead = dead_inputs(hessian)
    hessian.diagonal().masked_fill_(dead, 1.0)
    live = (~dead).to(hessian.dtype)
    codes, scales = torch.empty_like(cell.codes), torch.empty_like(cell.scale)
    most = at_once(hessian, ROWS, DEVICE_ROWS)
    levels = hessian.new_full((most,), cell.levels)
    for start in range(0, len(codes), most):
        rows = slice(start, start + most)
        zero = cell.zero_point[rows]
        steps = by_group(cell.codes[rows].float(), cell.columns) - zero.unsqueeze(-1)
        grid = cell.scale[rows].float()
        error = weight[rows].float() * scale
        error -= (steps * grid.unsqueeze(-1)).flatten(1)
        placed = Placed(
            steps.flatten(1).T.contiguous(),
            grid.T.contiguous(),
            zero.T.contiguous(),
            levels[: len(zero)],
        )
        pull = product(hessian, error.T.contiguous())
        polish(placed, pull, hessian, live, scheme)
        settled = by_group(placed.steps.T, cell.columns).add_(zero.unsqueeze(-1))
        codes[rows] = settled.flatten(1).to(torch.uint8)
        scales[rows] = placed.scale.T.to(scales)
    return replace(cell, codes=codes, scale=scales)


def _refit(
    steps: Tensor,
    scale: Tensor,
    pull: Tensor,
    block: Tensor,
    live: Tensor,
    scheme: Scheme,
) -> None:
    """Set the scales of a group to the best for its codes, of those that are stored.

    The error is a parabola in a scale, and the old one can be stored, so what is
    nearest to the vertex is no worse.
    """
    # what a step of the scale does to each column by itself and those behind it: those
    # in front of it have handed on their whole change once it is their turn
    felt = product(block.triu(), steps)
    weighted = steps * live.unsqueeze(1)
    slope = (weighted * pull).sum(0)
    curve = (weighted * (2 * felt - block.diagonal().unsqueeze(1) * steps)).sum(0)
    shift = torch.where(curve > 0, slope / curve, 0)
    dtype = scale_dtype(scheme)
    new = (scale + shift).clamp_(*ENDS[dtype]).to(dtype).to(scale.dtype)
    pull.addcmul_(felt, new - scale, value=-1)
    scale.copy_(new)


def pull_of(errors: Tensor, factor: Tensor) -> Tensor:
    """What GPTQ's errors leave as a pull: G of U G = E, as H = (U^T U)^-1.

    The weights are off by -U^T E, since an error is what a column lacks over its pivot,
    and the rows of U are what it hands on.

    Args:
        errors: [in, rows]; used up.
        factor: [in, in], U.
    """
    for start in range((len(factor) - 1) // BLOCK * BLOCK, -1, -BLOCK):
        own, rest = slice(start, start + BLOCK), slice(start + BLOCK, None)
        subtract_product_(errors[own], factor[own, rest], errors[rest])
        errors[own] = torch.linalg.solve_triangular(
            factor[own, own], errors[own], upper=True
        )
    return errors
