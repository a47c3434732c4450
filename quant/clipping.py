"""Clipping: a few weights cut off, for a finer grid under all the others.

The cost of an error dW is what it does to the outputs, tr(dW H dW^T). H also tells how
the errors of two groups meet, so a group is clipped with the others in view, where
autoawq looks at each group as if the others were exact.

Weights may carry a scale of their inputs (AWQ's s, ones for none): they are given
times s, and their errors meet inputs divided by s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from quant.grid import Grid, affine, between, by_group, decode, encode, extremes
from quant.hessian import output_error
from quant.products import product

if TYPE_CHECKING:
    from torch import Tensor

    from allocator.core.allocation import Scheme

# What may be cut off a range: up to 2.5 steps of its grid in small parts, since much of
# the gain is that of weights that happen to lie well, and it lasts on other inputs; and
# a few cuts of all sizes, each end by itself, for outliers that meet quiet inputs
FINE, COARSE = 12, 6
STEPS_CUT = 2.5
LARGEST_CUT = 0.5
# what errors count in groups that have yet to be clipped: they will change
FORESIGHT = 0.5


def shares(bits: int) -> list[tuple[float, float]]:
    """What may be left of a range: shares of its lower and upper end, all of it first.

    >>> shares(2)[0], shares(2)[FINE - 1]
    ((1.0, 1.0), (0.5, 0.5))
    """
    cut = min(LARGEST_CUT, STEPS_CUT / (2**bits - 1))
    fine = [1 - cut * step / (FINE - 1) for step in range(FINE)]
    # the R2 sequence, which fills a square evenly; g is the root of g**3 = g + 1
    g = 1.324717957244746
    coarse = [
        (1 - LARGEST_CUT * (step / g % 1), 1 - LARGEST_CUT * (step / g**2 % 1))
        for step in range(1, COARSE + 1)
    ]
    return [(share, share) for share in fine] + coarse


def _shorten(
    ends: tuple[Tensor, Tensor], lower: Tensor | float, upper: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Ends moved towards zero; of a range beside zero only the far end moves."""
    low, high = ends
    return torch.maximum(low, low * lower), torch.minimum(high, high * upper)


def row_errors(scaled: Tensor, scale: Tensor, hessian: Tensor, grid: Grid) -> Tensor:
    """Output error of each row on a given grid.

    Args:
        scaled: [rows, in] float32, weights times the scale.
        scale: [in] float32, positive.
        hessian: [in, in] float32.
        grid: of these rows, or one for all.

    Returns:
        [rows], not negative.
    """
    delta = decode(encode(scaled, grid), grid).sub_(scaled).div_(scale)
    return output_error(delta, hessian)


def common_grid(
    rows: tuple[Tensor, Tensor],
    scale: Tensor,
    hessian: Tensor,
    scheme: Scheme,
    bits: int,
) -> tuple[Grid, float]:
    """One clipped grid for a whole matrix, the best for some of its rows.

    Args:
        rows: the rows to judge by [k, in], and rows with the extremes of all of them;
            float32, not scaled.
        scale: [in] float32, positive.
        hessian: [in, in] float32.
        scheme: of group size "tensor".
        bits: width of a code.

    Returns:
        The grid, and the output error of the judging rows on it.
    """
    sample, edges = (part * scale for part in rows)
    ends = extremes(edges, scheme)
    tried = []
    for share in shares(bits):
        grid = between(*_shorten(ends, *share), scheme, bits, len(scale))
        tried.append((grid, float(row_errors(sample, scale, hessian, grid).sum())))
    return min(tried, key=lambda pair: pair[1])


@dataclass(frozen=True, eq=False)
class _Tries:
    """All grids that are tried for some rows, each tensor [tries, rows, n_groups].

    Attributes:
        scale: as it is stored.
        zero: float32.
        step: the scale in float32.
        floor: the lowest code, counted from the zero-point.
        ceiling: the highest.
        columns: inputs that share one scale.
    """

    scale: Tensor
    zero: Tensor
    step: Tensor
    floor: Tensor
    ceiling: Tensor
    columns: int

    @staticmethod
    def of(scaled: Tensor, scheme: Scheme, bits: int) -> _Tries:
        """Grids of [rows, in] weights, the whole range first."""
        left = torch.tensor(shares(bits), device=scaled.device).T[:, :, None, None]
        levels = torch.tensor(2.0**bits - 1, device=scaled.device)
        ends = _shorten(extremes(scaled, scheme), *left.unbind())
        scale, zero = affine(*ends, levels, scheme)
        columns = scheme.columns(scaled.shape[1])
        return _Tries(scale, zero, scale.float(), -zero, levels - zero, columns)

    def errors(self, scaled: Tensor, group: int) -> Tensor:
        """What rounding does to the weights [rows, columns] of a group.

        Returns:
            [tries, rows, columns].
        """
        some = (slice(None), slice(None), slice(group, group + 1))
        bounds = self.floor[some], self.ceiling[some]
        return _rounding(scaled, self.step[some], *bounds)

    def unclipped(self, scaled: Tensor) -> Tensor:
        """What rounding on the whole range does to weights [rows, in]: [rows, in]."""
        parts = (self.step, self.floor, self.ceiling)
        of = (part[0].unsqueeze(-1) for part in parts)
        return _rounding(by_group(scaled, self.columns), *of).flatten(1)

    def grid(self, chosen: Tensor, scheme: Scheme, bits: int) -> Grid:
        """The grids of which the numbers [rows, n_groups] are given."""
        scale, zero = (
            part.gather(0, chosen.unsqueeze(0))[0] for part in (self.scale, self.zero)
        )
        stored = None if scheme.symmetric else zero.to(torch.uint8)
        return Grid(scale=scale, zero=stored, columns=self.columns, bits=bits)


def _rounding(scaled: Tensor, step: Tensor, floor: Tensor, ceiling: Tensor) -> Tensor:
    """What rounding does to weights; all arguments broadcast against each other."""
    errors = (scaled / step).round_()
    # with bounds that differ by row, clamp is an order of magnitude slower
    torch.maximum(errors, floor, out=errors)
    torch.minimum(errors, ceiling, out=errors)
    return errors.mul_(step).sub_(scaled)


@dataclass(frozen=True, eq=False)
class _Choice:
    """The grids that were chosen for one group of some rows.

    Attributes:
        number: [rows], which of the tries.
        errors: [rows, columns], what is left to rounding.
        rounded: [rows], this group's part of the output error without clipping.
        clipped: [rows], its part with it.
    """

    number: Tensor
    errors: Tensor
    rounded: Tensor
    clipped: Tensor


def _choose(tried: Tensor, block: Tensor, left: Tensor, right: Tensor) -> _Choice:
    """Choose for each row what costs least.

    Args:
        tried: [tries, rows, columns], errors of all tries, the first one unclipped.
        block: [columns, columns], what they cost among each other.
        left: [rows, columns], what each costs for the errors of groups on the left.
        right: [rows, columns], the same for those on the right.
    """
    costs = product(tried.flatten(0, 1), block).view_as(tried)
    costs = costs.add_(left + FORESIGHT * right).mul_(tried).sum(-1)
    # the first of equals, so that nothing is cut off for nothing
    number = costs.argmin(0)
    row = torch.arange(len(number), device=number.device)
    errors = tried[number, row]
    # Two groups meet once in each sum: unclipped errors are all known from the start,
    # clipped ones on the left only
    ahead = (1 - FORESIGHT) * right - left
    return _Choice(
        number,
        errors,
        costs[0] + (ahead * tried[0]).sum(1),
        costs[number, row] - FORESIGHT * (right * errors).sum(1),
    )


def clip_rows(
    scaled: Tensor, scale: Tensor, hessian: Tensor, scheme: Scheme, bits: int
) -> tuple[Grid, Tensor]:
    """Cut ranges off wherever that lowers the output error of a row.

    One group after the other is searched, from the left, while the errors of the others
    stand.

    Args:
        scaled: [rows, in] float32, weights times the scale.
        scale: [in] float32, positive.
        hessian: [in, in] float32.
        scheme: of any group size but "tensor".
        bits: width of a code.

    Returns:
        The grids of all rows, and their output errors [rows], none above rounding's.
    """
    tries = _Tries.of(scaled, scheme, bits)
    groups = [
        slice(at, min(at + tries.columns, len(scale)))
        for at in range(0, len(scale), tries.columns)
    ]
    # errors as they meet the inputs: divided by the scale
    delta = tries.unclipped(scaled).div_(scale)
    numbers = []
    rounded, clipped = torch.zeros(2, len(scaled), device=scaled.device)
    for index, here in enumerate(groups):
        done, rest = slice(here.start), slice(here.stop, None)
        choice = _choose(
            tries.errors(scaled[:, here], index),
            hessian[here, here] / torch.outer(scale[here], scale[here]),
            product(delta[:, done], hessian[done, here]).mul_(2 / scale[here]),
            product(delta[:, rest], hessian[rest, here]).mul_(2 / scale[here]),
        )
        delta[:, here] = choice.errors.div_(scale[here])
        numbers.append(choice.number)
        rounded += choice.rounded
        clipped += choice.clipped
    chosen = torch.stack(numbers, 1)
    # what was not foreseen may have made a row worse, which then is left as it was
    chosen[clipped > rounded] = 0
    errors = torch.minimum(rounded, clipped).clamp_(min=0)
    return tries.grid(chosen, scheme, bits), errors
