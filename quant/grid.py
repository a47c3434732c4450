"""Low-bit grids: fit one to weights, round to it, read it back.

A grid is affine: weight = (code - zero) * scale, with codes 0 .. 2**bits - 1. Scales
are fp16, or bf16 for a checkpoint of that type, and are rounded *before* any code is
computed, so that what a method measures is what a checkpoint stores.

Three kinds of zero-point, by the scheme:

- asymmetric, per group or channel: an integer code; the range always contains zero, as
  in GPTQ (arXiv 2210.17323), so that a weight of zero stays zero;
- asymmetric, per tensor: a real number, for the published min-max formula, whose range
  starts at the smallest weight wherever that lies (arXiv 2601.15287);
- symmetric: the fixed code 2**(bits - 1), not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from allocator.core.allocation import FULL, WIDTHS
from allocator.core.errors import ModelError, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from allocator.core.allocation import Scheme

LOW_WIDTHS = tuple(bits for bits in WIDTHS if bits != FULL)
LARGEST_HALF = 65504.0
# smallest and largest scale of each type
ENDS = {
    torch.float16: (2.0**-24, LARGEST_HALF),
    torch.bfloat16: (2.0**-126, 2.0**127),
}
# a real zero-point is stored in fp16 too, so it must stay well below LARGEST_HALF
LARGEST_ZERO = 32768.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """Where the codes of a matrix lie.

    Attributes:
        scale: [out, n_groups] fp16 or bf16, positive; [1, 1] for one grid per tensor.
        zero: same shape; uint8, or fp16 per tensor; None where symmetric.
        columns: neighbouring inputs that share one scale; they divide a row.
        bits: width of a code, 2 to 8.
    """

    scale: Tensor
    zero: Tensor | None
    columns: int
    bits: int

    @property
    def levels(self) -> int:
        """The largest code."""
        return int(2**self.bits - 1)

    @property
    def zero_point(self) -> Tensor:
        """The zero-point in code units, stored or not: like `scale`, float32."""
        if self.zero is None:
            return torch.full_like(self.scale, 2 ** (self.bits - 1)).float()
        return self.zero.float()


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell(Grid):
    """The quantized weights of one linear at one width by one method.

    Attributes:
        codes: [out, in] uint8, each in 0 .. 2**bits - 1.
        channel_scale: [in] fp16, AWQ's s: the grid holds W * s and the effective weight
            is what it reads back divided by s. None: no scale.
        fallback: method whose cell replaced this one, because it was better.
    """

    codes: Tensor
    channel_scale: Tensor | None = None
    fallback: str | None = None


def dequantize(cell: Cell) -> Tensor:
    """Effective weights of a cell: [out, in] float32."""
    weight = decode(cell.codes, cell)
    if cell.channel_scale is not None:
        weight.div_(cell.channel_scale.float())
    return weight


def fit(weight: Tensor, scheme: Scheme, bits: int) -> Grid:
    """Min-max grid of a matrix.

    Args:
        weight: [out, in], floating point.
        scheme: group size and symmetry.
        bits: 2, 3, 4, 5, 6 or 8.

    Raises:
        SpecError: a width that is not one of these.
    """
    low, high = extremes(weight, scheme)
    return between(low, high, scheme, bits, scheme.columns(weight.shape[1]))


def round_to_nearest(weight: Tensor, scheme: Scheme, bits: int) -> Cell:
    """The plain cell: min-max grid, each weight to its nearest code."""
    return place(weight, fit(weight, scheme, bits))


def place(weight: Tensor, grid: Grid, channel_scale: Tensor | None = None) -> Cell:
    """Round [out, in] weights (already scaled by `channel_scale`) to a given grid."""
    return Cell(
        codes=encode(weight, grid),
        scale=grid.scale,
        zero=grid.zero,
        columns=grid.columns,
        bits=grid.bits,
        channel_scale=channel_scale,
    )


def encode(weight: Tensor, grid: Grid) -> Tensor:
    """Nearest codes of [out, in] weights on a grid: [out, in] uint8."""
    codes = nearest(
        by_group(weight.float(), grid.columns),
        grid.scale.float().unsqueeze(-1),
        grid.zero_point.unsqueeze(-1),
        torch.tensor(float(grid.levels), device=weight.device),
        real_zero=grid.zero is not None and grid.zero.is_floating_point(),
    )
    return codes.flatten(1).to(torch.uint8)


def decode(codes: Tensor, grid: Grid) -> Tensor:
    """Weights that [out, in] codes stand for: (code - zero) * scale in float32."""
    weight = torch.empty(codes.shape, dtype=torch.float32, device=codes.device)
    decode_(weight, codes, grid.scale.float(), grid.zero_point, grid.columns)
    return weight


def decode_(
    weight: Tensor, codes: Tensor, scale: Tensor, zero: Tensor, columns: int
) -> None:
    """Put what codes stand for into weights.

    Args:
        weight: [rows, in] float32, contiguous.
        codes: [rows, in], of any type.
        scale: [rows, n_groups] float32, or [1, 1].
        zero: the same.
        columns: neighbouring inputs that share one scale.
    """
    groups = by_group(weight, columns)
    groups.copy_(by_group(codes, columns))
    groups.sub_(zero.unsqueeze(-1)).mul_(scale.unsqueeze(-1))


def nearest(
    weight: Tensor, scale: Tensor, zero: Tensor, levels: Tensor, *, real_zero: bool
) -> Tensor:
    """Nearest codes, still as floats; all arguments broadcast against each other.

    An integer zero-point is added after rounding, as auto-gptq does: ties then go to
    the even multiple of the scale, whatever the zero-point.
    """
    codes = weight / scale
    codes = codes.add_(zero).round_() if real_zero else codes.round_().add_(zero)
    return codes.clamp_(min=0).clamp_(max=levels)


def by_group(matrix: Tensor, columns: int) -> Tensor:
    """View [out, in] as [out, n_groups, columns]."""
    return matrix.reshape(len(matrix), matrix.shape[1] // columns, columns)


def extremes(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Smallest and largest weight of each group: [out, n_groups] or [1, 1] float32.

    Raises:
        ModelError: a weight that is infinite or not a number.
    """
    if scheme.group_size == "tensor":
        groups = weight.reshape(1, 1, -1)
    else:
        groups = by_group(weight, scheme.columns(weight.shape[1]))
    low, high = groups.amin(-1).float(), groups.amax(-1).float()
    if not bool(torch.isfinite(high - low).all()):
        raise ModelError("weights hold values that are infinite or not numbers")
    return low, high


def between(low: Tensor, high: Tensor, scheme: Scheme, bits: int, columns: int) -> Grid:
    """Grid whose ends are given.

    Args:
        low: [out, n_groups] or [1, 1].
        high: same shape.
        scheme: group size and symmetry.
        bits: 2, 3, 4, 5, 6 or 8.
        columns: inputs that share one scale.

    Raises:
        SpecError: a width that is not one of these.
    """
    check_widths([bits])
    levels = torch.tensor(2.0**bits - 1, device=low.device)
    scale, zero = affine(low, high, levels, scheme)
    if scheme.symmetric:
        return Grid(scale=scale, zero=None, columns=columns, bits=bits)
    stored = torch.float16 if has_real_zero(scheme) else torch.uint8
    return Grid(scale=scale, zero=zero.to(stored), columns=columns, bits=bits)


def has_real_zero(scheme: Scheme) -> bool:
    """Whether zero-points are real numbers, not codes."""
    return scheme.group_size == "tensor" and not scheme.symmetric


def affine(
    low: Tensor, high: Tensor, levels: Tensor, scheme: Scheme
) -> tuple[Tensor, Tensor]:
    """Scale (of the scheme's type) and zero-point (float32, codes) between two ends.

    Args:
        low: any shape, finite.
        high: same shape, not below `low`.
        levels: 2**bits - 1, broadcastable.
        scheme: symmetric or not, and whether zero must lie on the grid.
    """
    if has_real_zero(scheme):
        return _published(low, high, levels, scheme)
    low, high = _containing_zero(low, high, symmetric=scheme.symmetric)
    scale = _stored((high - low) / levels, high - low, levels, scheme)
    if scheme.symmetric:
        return scale, ((levels + 1) / 2).expand_as(scale)
    zero = (-low / scale.float()).round_()
    return scale, torch.minimum(zero, levels)


def _published(
    low: Tensor, high: Tensor, levels: Tensor, scheme: Scheme
) -> tuple[Tensor, Tensor]:
    """Codes 0 and `levels` at the ends themselves, zero wherever it falls."""
    # a range that is tiny beside its distance from zero would push the zero-point out
    # of fp16; a wider step, still 2**-15 of the weights, keeps it in
    floor = torch.maximum(low.abs(), high.abs()) / LARGEST_ZERO
    step = torch.maximum((high - low) / levels, floor)
    scale = _stored(step, high - low, levels, scheme)
    zero = (-low / scale.float()).clamp(-LARGEST_HALF, LARGEST_HALF)
    return scale, zero.half().float()


def _containing_zero(
    low: Tensor, high: Tensor, *, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """Widen a range to contain zero, to be symmetric, and not to be empty."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    empty = low == high
    # any grid reads zeros back exactly; auto-gptq takes -1 .. 1
    return low.masked_fill(empty, -1.0), high.masked_fill(empty, 1.0)


def _stored(scale: Tensor, span: Tensor, levels: Tensor, scheme: Scheme) -> Tensor:
    """Round positive scales to their type, neither to 0 nor to infinity."""
    dtype = scale_dtype(scheme)
    smallest, largest = ENDS[dtype]
    half = scale.clamp(smallest, largest).to(dtype)
    # bf16 everywhere, and fp16 below 2**-14, is so coarse that rounding down could cut
    # off whole codes of the range. Positive numbers of either type are ordered like
    # their bit patterns, so + 1 is the next one
    short = (half.float() * (levels + 0.5) < span) & (half < largest)
    return torch.where(short, (half.view(torch.int16) + 1).view(dtype), half)


def scale_dtype(scheme: Scheme) -> torch.dtype:
    """The type of a scheme's scales."""
    return torch_type(scheme.scales)


def torch_type(scales: str) -> torch.dtype:
    """The type that scales of a name have."""
    return torch.bfloat16 if scales == "bfloat16" else torch.float16


def check_widths(widths: Sequence[int]) -> None:
    """Refuse widths that have no codes.

    Raises:
        SpecError: names the widths given and those that are possible.
    """
    bad = [bits for bits in widths if bits not in LOW_WIDTHS]
    if bad:
        raise SpecError(f"widths {bad} are not among {list(LOW_WIDTHS)}")
