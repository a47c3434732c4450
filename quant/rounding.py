"""Codes and grid of one linear while they are learned by signs of gradients.

SignRound (arXiv 2309.05516): an offset for each weight moves it across the edge between
two codes, and factors move the ends of each group's range. Here both start from a cell
that is there already. Each weight lies as far from its code as it was, but not as far
as the edge: at factors of 1 and offsets of 0 the codes and the grid are the cell's.

Rounding counts as if it were not there when gradients pass through it: w, its scale s,
its offset v and zero z give s * (clamp(round(w / s + v) + z) - z), whose derivatives
are written out here. Only their signs are used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from quant.grid import ENDS, LARGEST_HALF, by_group

if TYPE_CHECKING:
    from torch import Tensor

    from quant.grid import Cell

# codes between a weight and its code at the start; the edge is at 0.5
NEAR = 0.4
# share of weights at other codes than the nearest from which codes were chosen together
TOGETHER = 0.09


@dataclass(frozen=True)
class Rates:
    """Lengths of a step, and how much of earlier steps counts in one.

    Attributes:
        offset: in codes.
        ends: share of the ends of a range.
        momentum: 0 for none, below 1.
    """

    offset: float
    ends: float
    momentum: float = 0.0


class Rounding:
    """A cell that is being learned.

    Tensors are by group: [out, n_groups, columns], those of the grid [out, n_groups, 1]
    (one group of all weights where they share one grid), all float32. `together`:
    codes make up for one another, as GPTQ's do, and not all are the nearest ones.
    """

    def __init__(self, cell: Cell, weight: Tensor) -> None:
        """Start from a cell.

        Args:
            cell: without an AWQ scale.
            weight: [out, in], what it stands for.
        """
        self.cell = cell
        self.first_scale = cell.scale.float().unsqueeze(-1)
        self.first_zero = cell.zero_point.unsqueeze(-1)
        codes = self._grouped(cell.codes.float())
        away = self._grouped(weight.float()) / self.first_scale
        away = away.add_(self.first_zero).sub_(codes)
        # what lies beyond the range may lie far beyond it
        below = torch.where(codes > 0, -NEAR, -torch.inf)
        above = torch.where(codes < cell.levels, NEAR, torch.inf)
        near = torch.maximum(torch.minimum(away, above), below)
        moved = (away - near).abs() > 0.6 - NEAR
        self.together = float(moved.float().mean()) > TOGETHER
        self.weight = codes.sub_(self.first_zero).add_(near).mul_(self.first_scale)
        self.offset = torch.zeros_like(self.weight)
        self.low = torch.ones_like(self.first_scale)
        self.high = torch.ones_like(self.first_scale)
        self._trend = torch.zeros_like(self.weight)
        self._now: tuple[Tensor, Tensor] | None = None

    def value(self) -> Tensor:
        """Weights that codes and grid stand for: [out, in]."""
        scale, zero = self._grid()
        codes = self._codes(scale, zero).clamp_(0, self.cell.levels)
        return codes.sub_(zero).mul_(scale).view(self.cell.codes.shape)

    def learned(self) -> Cell:
        """The cell as it is now."""
        cell, (scale, zero) = self.cell, self._grid()
        codes = self._codes(scale, zero).clamp_(0, cell.levels)
        return replace(
            cell,
            codes=codes.to(torch.uint8).view(cell.codes.shape),
            scale=scale.squeeze(-1).to(cell.scale.dtype),
            zero=None if cell.zero is None else zero.squeeze(-1).to(cell.zero.dtype),
        )

    def step(self, gradient: Tensor, rates: Rates) -> None:
        """Go against the gradient of `value`: [out, in], any floating type."""
        scale, zero = self._grid()
        free = self._codes(scale, zero)
        codes = free.clamp(0, self.cell.levels)
        inside = free == codes
        # half precision may overflow, and says nothing then
        gradient = self._grouped(gradient.float().nan_to_num(0.0, 0.0, 0.0))
        clamped = gradient.masked_fill(inside, 0.0)
        # with the scale goes what rounding adds to a weight, and all of an end
        moved = codes.sub_(zero)
        moved -= self.weight.div(scale).mul_(inside)
        along = (gradient * moved).sum(-1, keepdim=True)
        self._move_ends(along, clamped, zero, rates.ends)
        self._trend.mul_(rates.momentum).add_(gradient.sub_(clamped))
        self.offset.sub_(self._trend.sign(), alpha=rates.offset)
        self._now = None

    def _move_ends(
        self, along: Tensor, clamped: Tensor, zero: Tensor, rate: float
    ) -> None:
        """Move the range, given the gradient along the scale with zero held fast."""
        if self.cell.zero is None:
            self.high.sub_(along.sign_(), alpha=rate)
            return
        # zero * scale is the low end, which does not follow the scale
        both = clamped.sum(-1, keepdim=True)
        along = along.addcmul_(both, zero).div_(self.cell.levels)
        low = (along - both) * self.first_zero
        high = along * (self.cell.levels - self.first_zero)
        self.low.sub_(low.sign_(), alpha=rate)
        self.high.sub_(high.sign_(), alpha=rate)

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Scale and zero-point as a cell holds them, until the next step."""
        if self._now is None:
            self._now = self._rounded_grid()
        return self._now

    def _rounded_grid(self) -> tuple[Tensor, Tensor]:
        cell, levels = self.cell, self.cell.levels
        factor = self.high
        if cell.zero is not None:
            above = (levels - self.first_zero) * self.high
            factor = above.addcmul_(self.first_zero, self.low).div_(levels)
        stored = (self.first_scale * factor).clamp_(*ENDS[cell.scale.dtype])
        scale = stored.to(cell.scale.dtype).float()
        if cell.zero is None:
            return scale, self.first_zero
        zero = self.first_zero * self.first_scale * self.low / scale
        if self._real_zero:
            return scale, zero.clamp_(-LARGEST_HALF, LARGEST_HALF).half().float()
        return scale, zero.round_().clamp_(0, levels)

    def _codes(self, scale: Tensor, zero: Tensor) -> Tensor:
        """Codes as if there were as many as it takes."""
        steps = torch.addcdiv(self.offset, self.weight, scale)
        if self._real_zero:
            return steps.add_(zero).round_()
        return steps.round_().add_(zero)

    @property
    def _real_zero(self) -> bool:
        return self.cell.zero is not None and self.cell.zero.is_floating_point()

    def _grouped(self, matrix: Tensor) -> Tensor:
        if len(self.cell.scale) < len(matrix):
            return matrix.reshape(1, 1, -1)
        return by_group(matrix, self.cell.columns)
