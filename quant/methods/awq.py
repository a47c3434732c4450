"""AWQ (arXiv 2306.00978): protect the inputs that matter by scaling, then clip.

Inputs with large activations get their weights scaled up by s before rounding and the
activations scaled down by the same s, which the module before them absorbs. Siblings
read one input, so they share s. Then the range of each group may shrink: a few clipped
weights for a finer grid.

Where autoawq runs the activations again for every candidate, the same squared output
error is a quadratic form here: tr(dW H dW^T). That also tells how the errors of two
groups meet, so the clipping of a group is searched with the others in view, where
autoawq looks at each group as if the others were exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from quant.grid import (
    between,
    check_widths,
    decode,
    dequantize,
    encode,
    extremes,
    fit,
    place,
)
from quant.hessian import total_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Method
    from quant.grid import Cell, Grid
    from quant.hessian import InputStatistics

# as autoawq: alpha in steps of 1/20 below 1, ranges down to half in steps of 1/20.
# No scaling comes first, so that it wins ties, then the likely ones, so that the
# unlikely ones are given up early
ALPHAS = (0.0, *sorted((k / 20 for k in range(1, 20)), key=lambda a: abs(a - 0.5)))
SHRINKS = tuple(1 - step / 20 for step in range(10))
# an s beyond this says that two inputs differ by more than fp16 can fold
LARGEST_SCALE = 2.0**13


class Awq:
    """Activation-aware scaling and clipping, on statistics alone."""

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
        """Cells of each width, in sum no worse on the calibration inputs than rounding.

        The searches start from rounding and only ever step down, so nothing is left to
        fall back to.

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
        return {
            bits: _cells(weights, inputs, scheme, bits, foldable=foldable)
            for bits in widths
        }


def _cells(
    weights: Sequence[Tensor],
    inputs: InputStatistics,
    scheme: Scheme,
    bits: int,
    *,
    foldable: bool,
) -> list[Cell]:
    """Scale, then clip, all siblings at one width."""
    if not weights:
        return []
    originals = [weight.float() for weight in weights]
    hessian = inputs.hessian.to(weights[0].device)
    scale = None
    if foldable:
        scale = _best_scale(originals, inputs.mean_abs, hessian, scheme, bits)
    return [_clip(weight, scale, hessian, scheme, bits) for weight in originals]


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
    if not bool(live.any()):
        return torch.ones_like(mean_abs).half()
    # an input that never spoke gets the scale of the quietest that did: 0 would blow
    # up its rounding error, should it speak one day
    scale = torch.where(live, mean_abs, mean_abs[live].min()).float().pow(alpha)
    scale = scale / scale.max().sqrt() / scale.min().sqrt()
    return scale.clamp(1 / LARGEST_SCALE, LARGEST_SCALE).half()


def _best_scale(
    weights: Sequence[Tensor],
    mean_abs: Tensor,
    hessian: Tensor,
    scheme: Scheme,
    bits: int,
) -> Tensor | None:
    """The candidate of the least output error over all siblings; None for alpha 0."""
    best, least = None, float("inf")
    for alpha in ALPHAS:
        scale = candidate(mean_abs.to(hessian.device), alpha)
        error = 0.0
        for weight in weights:
            scaled = weight * scale.float()
            cell = place(scaled, fit(scaled, scheme, bits), scale)
            error += total_error(dequantize(cell) - weight, hessian, least - error)
        if error < least:
            best, least = scale if alpha else None, error
    return best


def _clip(
    weight: Tensor, scale: Tensor | None, hessian: Tensor, scheme: Scheme, bits: int
) -> Cell:
    """The cell of a matrix once its scale is known."""
    if scale is None:
        return place(weight, _clipped_grid(weight, hessian, scheme, bits))
    # the grid holds W * s, so its errors meet inputs divided by s
    scaled = weight * scale.float()
    bent = hessian / torch.outer(scale.float(), scale.float())
    return place(scaled, _clipped_grid(scaled, bent, scheme, bits), scale)


@dataclass(frozen=True, eq=False)
class _Group:
    """Weights that share a grid, and what their error meets.

    Attributes:
        weight: [out, columns].
        low: [out, 1] or [1, 1], smallest weight.
        high: same shape, largest weight.
        block: [columns, columns] of the Hessian.
        outside: [out, columns], the errors of all other groups times the Hessian.
    """

    weight: Tensor
    low: Tensor
    high: Tensor
    block: Tensor
    outside: Tensor


def _clipped_grid(weight: Tensor, hessian: Tensor, scheme: Scheme, bits: int) -> Grid:
    """Min-max grid whose ends are cut off wherever that lowers the output error.

    One group after the other is searched while the errors of the others stand, so that
    the whole error never grows.
    """
    columns = scheme.columns(weight.shape[1])
    low, high = extremes(weight, scheme)
    bound = torch.maximum(low.abs(), high.abs())
    full = between(low, high, scheme, bits, columns)
    delta = decode(encode(weight, full), full) - weight
    pull = delta @ hessian
    for index, start in enumerate(range(0, weight.shape[1], columns)):
        here, one = slice(start, start + columns), slice(index, index + 1)
        block = hessian[here, here]
        outside = pull[:, here] - delta[:, here] @ block
        group = _Group(weight[:, here], low[:, one], high[:, one], block, outside)
        bound[:, one], clipped = _search_bound(group, scheme, bits)
        pull.addmm_(clipped - delta[:, here], hessian[here])
        delta[:, here] = clipped
    return between(*_cut(low, high, bound), scheme, bits, columns)


def _search_bound(group: _Group, scheme: Scheme, bits: int) -> tuple[Tensor, Tensor]:
    """Bound of each row, like `low`, and the error of its weights, [out, columns].

    As in autoawq one bound cuts both ends: a share of the largest magnitude.
    """
    magnitude = torch.maximum(group.low.abs(), group.high.abs())
    bound, best = magnitude, torch.full_like(magnitude, float("inf"))
    kept = torch.zeros_like(group.weight)
    for shrink in SHRINKS:
        tried = magnitude * shrink
        ends = _cut(group.low, group.high, tried)
        grid = between(*ends, scheme, bits, group.weight.shape[1])
        delta = decode(encode(group.weight, grid), grid) - group.weight
        error = ((delta @ group.block + 2 * group.outside) * delta).sum(1, keepdim=True)
        if scheme.group_size == "tensor":
            error = error.sum().reshape(1, 1)
        bound = torch.where(error < best, tried, bound)
        kept = torch.where(error < best, delta, kept)
        best = torch.minimum(error, best)
    return bound, kept


def _cut(low: Tensor, high: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Ends no larger than a bound, a one-sided range not turned inside out."""
    return (
        torch.maximum(low, -bound).minimum(high),
        torch.minimum(high, bound).maximum(low),
    )


PLUGIN: Method = Awq()
