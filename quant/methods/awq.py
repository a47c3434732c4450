"""AWQ (arXiv 2306.00978): protect the inputs that matter by scaling, then clip.

Inputs with large activations get their weights scaled up by s before rounding and the
activations scaled down by the same s, which the module before them absorbs. Siblings
read one input, so they share s. Then the range of each group may shrink: a few clipped
weights for a finer grid. Cells of few bits are polished in the end, scales and codes
with all others in view, which autoawq does not do.

Where autoawq runs the activations again for every candidate, the same squared output
error is a quadratic form here: tr(dW H dW^T). A scale is judged by what clipping leaves
of that error, on a sample of rows: each row has an error of its own, and a few of them
show which way all go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import torch

from quant.chunks import at_once
from quant.clipping import clip_rows, common_grid, row_errors
from quant.grid import Cell, Grid, check_widths, encode, fit
from quant.methods._polish import POLISHED_BITS, polished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Method
    from quant.hessian import InputStatistics

# As autoawq, alpha in steps of 1/20 from 0 on. The error is smooth in it: every fourth
# is tried, then the neighbours of the best, at half the distance each time
ALPHA_STEPS = 20
ALPHA_STRIDES = (4, 2, 1)
# rows that judge a scale, of all siblings together: at least so many, and so many
# weights; twice as many chose no better
SAMPLE_ROWS, SAMPLE_WEIGHTS = 128, 2**17
# rows at once: what is tried on them should fit into a cache, or fill a GPU
CPU_ROWS, GPU_ROWS = 128, 2**14
# an s beyond this says that two inputs differ by more than fp16 can fold
LARGEST_SCALE = 2.0**13


class Awq:
    """Activation-aware scaling and clipping, on statistics alone."""

    version = 4

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

        Clipping only ever steps down from rounding. A scale that would leave any of the
        siblings above its rounding is given up for all of them.

        Args:
            weights: matrices [out_i, in]; not modified.
            inputs: statistics of the inputs they all read.
            scheme: group size and symmetry.
            widths: of 2, 3, 4, 5, 6, 8.
            foldable: whether the module before can absorb a scale; if not, only clip.

        Returns:
            For each width one cell per matrix, all with the same `channel_scale`.

        Raises:
            SpecError: another width, or weights that do not read these inputs.
            ModelError: weights or activations that are not finite.
        """
        check_widths(widths)
        inputs.check(weights)
        if not weights:
            return {bits: [] for bits in widths}
        layer = _Layer.of(weights, inputs, scheme)
        return {bits: _cells(layer, bits, foldable=foldable) for bits in widths}


@dataclass(frozen=True, eq=False)
class _Matrix:
    """The weights of one linear.

    Attributes:
        weight: [out, in], floating point.
        sample: [k, in] float32, some of its rows.
        edges: [2, in] float32, smallest and largest weight of each input; only where
            all rows share a grid.
    """

    weight: Tensor
    sample: Tensor
    edges: Tensor | None

    @property
    def chunks(self) -> Iterator[slice]:
        """Rows to work on at once."""
        count = at_once(self.weight, CPU_ROWS, GPU_ROWS)
        return (slice(at, at + count) for at in range(0, len(self.weight), count))


@dataclass(frozen=True, eq=False)
class _Layer:
    """A sibling set and what it reads, on one device.

    Attributes:
        matrices: the siblings.
        sample: [k, in] float32, the samples of all of them.
        hessian: [in, in] float32.
        mean_abs: [in] float32.
        scheme: group size and symmetry.
    """

    matrices: tuple[_Matrix, ...]
    sample: Tensor
    hessian: Tensor
    mean_abs: Tensor
    scheme: Scheme

    @staticmethod
    def of(
        weights: Sequence[Tensor], inputs: InputStatistics, scheme: Scheme
    ) -> _Layer:
        """Take from weights [out_i, in] what all widths share."""
        device, total = weights[0].device, sum(map(len, weights))
        count = max(SAMPLE_ROWS, SAMPLE_WEIGHTS // weights[0].shape[1])
        # equal inputs give equal cells, on every device
        generator = torch.Generator().manual_seed(0)
        matrices = []
        for weight in weights:
            order = torch.randperm(len(weight), generator=generator)
            picked = order[: -(-count * len(weight) // total)].sort().values
            edges = None
            if scheme.group_size == "tensor":
                edges = torch.stack((weight.amin(0), weight.amax(0))).float()
            sample = weight[picked.to(device)].float()
            matrices.append(_Matrix(weight, sample, edges))
        return _Layer(
            tuple(matrices),
            torch.cat([matrix.sample for matrix in matrices]),
            inputs.hessian.to(device),
            inputs.mean_abs.to(device),
            scheme,
        )


def candidate(mean_abs: Tensor, alpha: float) -> Tensor:
    """One scale of the search: s = mean_abs**alpha, its extremes balanced around 1.

    Args:
        mean_abs: [in] mean of abs(x), not negative.
        alpha: 0 (no scaling) to 1.

    Returns:
        [in] fp16, positive; rounded here so that it is stored as it is tried.

    >>> candidate(torch.tensor([4.0, 1.0, 0.25]), 0.5).tolist()
    [2.0, 1.0, 0.5]
    """
    live = mean_abs > 0
    # an input that never spoke gets the scale of the quietest that did: 0 would blow
    # up its rounding error, should it speak one day
    quietest = mean_abs.masked_fill(~live, math.inf).min()
    # if none spoke there is no such one, and no scale
    quietest = torch.where(live.any(), quietest, 1.0)
    scale = torch.where(live, mean_abs, quietest).float().pow(alpha)
    scale = scale / scale.max().sqrt() / scale.min().sqrt()
    return scale.clamp(1 / LARGEST_SCALE, LARGEST_SCALE).half()


def _cells(layer: _Layer, bits: int, *, foldable: bool) -> list[Cell]:
    """Scale, then clip, all siblings at one width."""
    alpha = _best_alpha(layer, bits) if foldable else 0.0
    if alpha:
        scale = candidate(layer.mean_abs, alpha)
        cells = []
        for matrix in layer.matrices:
            cell, error = _clip(layer, matrix, scale.float(), bits)
            if not error <= _rounding_error(layer, matrix, bits, error):
                break
            cells.append(cell)
        else:
            cells = _polished(layer, cells, scale.float())
            return [replace(cell, channel_scale=scale) for cell in cells]
    ones = torch.ones_like(layer.mean_abs)
    cells = [_clip(layer, matrix, ones, bits)[0] for matrix in layer.matrices]
    return _polished(layer, cells, ones)


def _polished(layer: _Layer, cells: list[Cell], scale: Tensor) -> list[Cell]:
    """Cells of few bits, polished; the scale [in] is not yet in them."""
    if cells[0].bits > POLISHED_BITS or layer.scheme.group_size == "tensor":
        return cells
    return [
        polished(cell, matrix.weight, scale, layer.hessian, layer.scheme)
        for cell, matrix in zip(cells, layer.matrices, strict=True)
    ]


def _best_alpha(layer: _Layer, bits: int) -> float:
    """The alpha of the least error of the sample, after clipping; 0 wins ties."""

    @cache
    def error(step: int) -> float:
        scale = candidate(layer.mean_abs, step / ALPHA_STEPS).float()
        return _sample_error(layer, scale, bits)

    best = min(range(0, ALPHA_STEPS + 1, ALPHA_STRIDES[0]), key=error)
    for stride in ALPHA_STRIDES[1:]:
        near = (best, max(best - stride, 0), min(best + stride, ALPHA_STEPS))
        best = min(near, key=error)
    return best / ALPHA_STEPS


def _sample_error(layer: _Layer, scale: Tensor, bits: int) -> float:
    """Output error of the sampled rows, clipped under a scale [in]."""
    if layer.scheme.group_size != "tensor":
        scaled = layer.sample * scale
        _, errors = clip_rows(scaled, scale, layer.hessian, layer.scheme, bits)
        return float(errors.sum())
    return sum(_try_common(layer, matrix, scale, bits)[1] for matrix in layer.matrices)


def _try_common(
    layer: _Layer, matrix: _Matrix, scale: Tensor, bits: int
) -> tuple[Grid, float]:
    """One grid for a matrix, and the error of its sampled rows."""
    assert matrix.edges is not None
    rows = (matrix.sample, matrix.edges)
    return common_grid(rows, scale, layer.hessian, layer.scheme, bits)


def _clip(
    layer: _Layer, matrix: _Matrix, scale: Tensor, bits: int
) -> tuple[Cell, float]:
    """A clipped cell, yet without its scale [in], and its output error."""
    common = None
    if matrix.edges is not None:
        common = _clip_common(layer, matrix, matrix.edges, scale, bits)
    codes = torch.empty(
        matrix.weight.shape, dtype=torch.uint8, device=matrix.weight.device
    )
    grids, total = [], 0.0
    for rows in matrix.chunks:
        scaled = matrix.weight[rows].float() * scale
        if common is None:
            grid, errors = clip_rows(scaled, scale, layer.hessian, layer.scheme, bits)
        else:
            grid, errors = common, row_errors(scaled, scale, layer.hessian, common)
        codes[rows] = encode(scaled, grid)
        grids.append(grid)
        total += float(errors.sum())
    grid = common or _stack(grids)
    cell = Cell(
        codes=codes, scale=grid.scale, zero=grid.zero, columns=grid.columns, bits=bits
    )
    return cell, total


def _stack(grids: Sequence[Grid]) -> Grid:
    """The grid of a matrix from those of its rows."""
    zeros = [grid.zero for grid in grids if grid.zero is not None]
    return replace(
        grids[0],
        scale=torch.cat([grid.scale for grid in grids]),
        zero=torch.cat(zeros) if zeros else None,
    )


def _clip_common(
    layer: _Layer, matrix: _Matrix, edges: Tensor, scale: Tensor, bits: int
) -> Grid:
    """One grid for a matrix: the best on the sample, if all rows bear it out."""
    best, _ = _try_common(layer, matrix, scale, bits)
    plain = fit(edges * scale, layer.scheme, bits)
    error = _error(layer, matrix, scale, lambda _: best)
    rounded = _error(layer, matrix, scale, lambda _: plain, error)
    return best if error <= rounded else plain


def _rounding_error(layer: _Layer, matrix: _Matrix, bits: int, limit: float) -> float:
    """Output error of plain rounding, or a number above the limit."""
    ones = torch.ones_like(layer.mean_abs)
    common = (
        matrix.edges if matrix.edges is None else fit(matrix.edges, layer.scheme, bits)
    )
    return _error(
        layer, matrix, ones, lambda rows: common or fit(rows, layer.scheme, bits), limit
    )


def _error(
    layer: _Layer,
    matrix: _Matrix,
    scale: Tensor,
    choose: Callable[[Tensor], Grid],
    limit: float = float("inf"),
) -> float:
    """Output error of a matrix on the grids chosen for its scaled rows.

    No row has a negative error, so above the limit a part of the sum is enough.
    """
    total = 0.0
    for rows in matrix.chunks:
        scaled = matrix.weight[rows].float() * scale
        errors = row_errors(scaled, scale, layer.hessian, choose(scaled))
        total += float(errors.sum())
        if total > limit:
            break
    return total


PLUGIN: Method = Awq()
