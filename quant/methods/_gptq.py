"""GPTQ (arXiv 2210.17323): round column by column, and let the rest make up for it.

All siblings, each at every width, are rows of one problem with one factorization. It
is solved in chunks of rows, so that memory is bounded whatever the layer. Inputs are
rounded in an order of their own, groups as wholes, so what is stored has the same form
as without.

An input that calibration never saw active has nothing to pass on or take up: its
weights are rounded to nearest. (GPTQ sets them to zero, which costs nothing on the
calibration inputs and everything once such an input speaks.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from allocator.core.allocation import Scheme
from quant.chunks import column_bytes
from quant.grid import (
    Cell,
    between,
    check_widths,
    dequantize,
    extremes,
    has_real_zero,
    place,
    round_to_nearest,
    scale_dtype,
)
from quant.hessian import row_spans, summed_error
from quant.methods._columns import Problem, Route, solve
from quant.ordering import by_loudness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from quant.hessian import InputStatistics

# rows of a chunk are a multiple of it: with columns that do not begin at cache lines
# the whole solve took half as long again
ALIGNED = 16
# Up to these bits the ends of a group are those before the loop. Mean output error when
# they are fitted on entering over that, on activations that calibration did not see:
# all linears of the embedded models in groups of 32, and gaussian layers of 1024 inputs
# in groups of 128: 2 bits 1.04 and 1.51, 3 bits 0.99 and 1.10, 4 bits 0.98 and 1.02,
# 8 bits 0.98 and 1.00; with searched ranges 2 bits 0.97 and 1.06, 3 bits 0.98 and 1.03,
# 4 bits 0.98 and 1.00
STATIC_BITS = 3
# Up to these bits ranges are searched. Above, 0.83 to 0.91 of the error would be left,
# but it is below 0.0004 of the outputs as it is
SEARCHED_BITS = 4


@dataclass(frozen=True, eq=False)
class Part:
    """A matrix at one width, with room for what it is rounded to.

    Attributes:
        weight: [out, in].
        bits: width.
        ends: smallest and largest weight of all, [1, 1] each.
        cell: codes, scales and zero-points; filled in by `solve_parts`.
        loss: [out], filled in as well.
    """

    weight: Tensor
    bits: int
    ends: tuple[Tensor, Tensor]
    cell: Cell
    loss: Tensor

    @staticmethod
    def of(weight: Tensor, scheme: Scheme, bits: int) -> Part:
        """An empty part.

        Raises:
            ModelError: a weight that is infinite or not a number.
        """
        outputs, features = weight.shape
        ends = extremes(weight, Scheme("tensor"))
        shared = scheme.columns(features)
        grids = (outputs, features // shared)
        if scheme.group_size == "tensor":
            grids = (1, 1)
        stored = torch.float16 if has_real_zero(scheme) else torch.uint8
        empty = torch.zeros(grids, device=weight.device)
        cell = Cell(
            codes=empty.new_empty(outputs, features, dtype=torch.uint8),
            scale=empty.to(scale_dtype(scheme)),
            zero=None if scheme.symmetric else empty.to(stored),
            columns=shared,
            bits=bits,
        )
        return Part(weight, bits, ends, cell, empty.new_empty(outputs))


@dataclass(frozen=True)
class Gptq:
    """GPTQ, one factorization for all siblings and widths.

    Attributes:
        search: try several ranges for each grid of few bits, and polish what comes out.
    """

    search: bool = True
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
        parts = [Part.of(w, scheme, bits) for bits in sorted(cells) for w in weights]
        shared = scheme.columns(len(hessian))
        route = Route.of(hessian, by_loudness(hessian, shared), shared)
        solve_parts(parts, scheme, route, search=self.search)
        for part in parts:
            cells[part.bits].append(_not_worse(part, hessian, scheme))
        return cells


def solve_parts(
    parts: Sequence[Part], scheme: Scheme, route: Route, *, search: bool
) -> None:
    """Fill in what parts are rounded to.

    Args:
        parts: matrices that read the same inputs, in order of their widths.
        scheme: grid of all of them.
        route: order of the inputs and their Hessian.
        search: whether ranges are searched at few bits.
    """
    features = len(route.order)
    # a grid of the whole matrix is the published min-max formula
    search = search and scheme.group_size != "tensor"
    most = column_bytes(route.factor.device)
    most //= features * route.factor.element_size()
    most = max(ALIGNED, most - most % ALIGNED)
    for chunk in _chunks(parts, most):
        solution = solve(_problem(chunk, scheme, route, search=search))
        at = 0
        for part, rows in chunk:
            here = slice(at, at := at + rows.stop - rows.start)
            part.cell.codes[rows] = solution.codes[here]
            part.loss[rows] = solution.loss[here]
            # every row has the same one, where there is one for the whole matrix
            own = slice(0, 1) if scheme.group_size == "tensor" else rows
            first = slice(here.start, here.start + own.stop - own.start)
            part.cell.scale[own] = solution.scale[:, first].T.to(part.cell.scale)
            if part.cell.zero is not None:
                part.cell.zero[own] = solution.zero[:, first].T.to(part.cell.zero.dtype)


def _chunks(parts: Sequence[Part], most: int) -> Iterator[list[tuple[Part, slice]]]:
    """Rows of all parts, in turn, at most so many at a time."""
    chunk: list[tuple[Part, slice]] = []
    room = most
    for part in parts:
        start = 0
        while start < len(part.weight):
            stop = min(start + room, len(part.weight))
            chunk.append((part, slice(start, stop)))
            room -= stop - start
            start = stop
            if not room:
                yield chunk
                chunk, room = [], most
    if chunk:
        yield chunk


def _problem(
    chunk: Sequence[tuple[Part, slice]], scheme: Scheme, route: Route, *, search: bool
) -> Problem:
    """Some rows of some matrices, transposed and side by side."""
    features, total = len(route.order), sum(s.stop - s.start for _, s in chunk)
    groups = route.order[:: scheme.columns(features)] // scheme.columns(features)
    columns = route.factor.new_empty(features, total)
    low, high = (route.factor.new_empty(len(groups), total) for _ in range(2))
    levels = route.factor.new_empty(total)
    static, searched, at = 0, 0, 0
    # the same rows come again at other widths
    seen: dict[tuple[int, int], slice] = {}
    for part, rows in chunk:
        here = slice(at, at := at + rows.stop - rows.start)
        levels[here] = 2.0**part.bits - 1
        first = seen.setdefault((id(part.weight), rows.start), here)
        if first is here:
            weight, ends = part.weight[rows], part.ends
            if scheme.group_size != "tensor":
                ends = extremes(weight, scheme)
            low[:, here], high[:, here] = (end.T[groups] for end in ends)
            turned = weight[:, route.order].T
            # to turn a matrix round is quick if nothing lies between its rows
            columns[:, here] = turned.contiguous()
        else:
            same = slice(first.start, first.start + here.stop - here.start)
            for each in (columns, low, high):
                each[:, here] = each[:, same]
        if part.bits <= STATIC_BITS or scheme.group_size == "tensor":
            static = at
        if search and part.bits <= SEARCHED_BITS:
            searched = at
    return Problem(columns, levels, low, high, scheme, route, static, searched)


def _not_worse(part: Part, hessian: Tensor, scheme: Scheme) -> Cell:
    """The cell, or plain rounding where that has the smaller output error.

    Rounding wins at times at 2 bits, or after little calibration. The loss is an upper
    bound of the cell's error, since damping only adds; mostly that is enough to know.
    """
    weight, cell, loss = part.weight, part.cell, float(part.loss.double().sum())
    spans = list(row_spans(weight))
    plain = (_rounded(part, scheme, rows) - weight[rows].float() for rows in spans)
    rounded = summed_error(plain, hessian, limit=loss)
    if loss < rounded:
        return cell
    own = (dequantize(_cut(cell, rows)) - weight[rows].float() for rows in spans)
    if rounded >= summed_error(own, hessian):
        return cell
    return replace(round_to_nearest(weight, scheme, cell.bits), fallback="uniform")


def _rounded(part: Part, scheme: Scheme, rows: slice) -> Tensor:
    """Some rows of a matrix, rounded to nearest: [rows, in] float32."""
    weight = part.weight[rows]
    if scheme.group_size != "tensor":
        return dequantize(round_to_nearest(weight, scheme, part.bits))
    grid = between(*part.ends, scheme, part.bits, part.cell.columns)
    return dequantize(place(weight, grid))


def _cut(cell: Cell, rows: slice) -> Cell:
    """Some rows of a cell."""
    if len(cell.scale) < len(cell.codes):
        return replace(cell, codes=cell.codes[rows])
    zero = None if cell.zero is None else cell.zero[rows]
    return replace(cell, codes=cell.codes[rows], scale=cell.scale[rows], zero=zero)
