"""Matrices, schemes and layers as hypothesis draws them, and what any cell must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from allocator.core.allocation import GROUP_SIZES, Scheme
from quant.grid import LOW_WIDTHS, Cell, Grid, dequantize, has_real_zero

if TYPE_CHECKING:
    from collections.abc import Callable

# steps and real zero-points are fp16
LARGEST_HALF = 65504.0


def examples(count: int) -> settings:
    """As many examples, the same ones in every run, in whatever time they take."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=slow
    )


def constant_rows(weight: torch.Tensor) -> torch.Tensor:
    return weight[:, :1].expand_as(weight).clone()


def outlier(weight: torch.Tensor) -> torch.Tensor:
    weight = weight.clone()
    weight.view(-1)[weight.numel() // 3] *= 1000
    return weight


def unlike_rows(weight: torch.Tensor) -> torch.Tensor:
    return weight * 10.0 ** torch.linspace(-4, 4, len(weight)).unsqueeze(1)


def distant(weight: torch.Tensor) -> torch.Tensor:
    return 1 + 1e-4 * weight


# what gaussian weights are turned into
KINDS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    torch.Tensor.clone,
    torch.Tensor.abs,
    lambda weight: -weight.abs(),
    torch.relu,
    torch.zeros_like,
    torch.sign,
    constant_rows,
    outlier,
    unlike_rows,
    distant,
    lambda weight: -distant(weight),
]

widths = st.sampled_from(LOW_WIDTHS)
schemes = st.builds(Scheme, st.sampled_from(GROUP_SIZES), st.booleans())
# below, at and above every group size
features = st.sampled_from([1, 2, 31, 32, 33, 64, 65, 96, 127, 128, 129, 200, 256, 300])
sizes = st.sampled_from([1e-30, 1e-8, 1e-5, 0.02, 1.0, 1e3, 1e7, 1e30])
seeds = st.integers(0, 2**16)


def gaussian(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@st.composite
def matrices(
    draw: Any, columns: int | None = None, sizes: st.SearchStrategy[float] = sizes
) -> torch.Tensor:
    rows = draw(st.integers(1, 6))
    if columns is None:
        columns = draw(features)
    kind = draw(st.sampled_from(KINDS))
    return kind(gaussian(rows, columns, draw(seeds))) * draw(sizes)


@st.composite
def layers(
    draw: Any, sizes: st.SearchStrategy[float] = sizes
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Siblings, and tokens [n, in] that they read, some features dead or loud."""
    columns = draw(features)
    weights = draw(st.lists(matrices(columns, sizes), min_size=1, max_size=2))
    x = gaussian(draw(st.sampled_from([1, 3, 400])), columns, draw(seeds))
    x *= draw(st.sampled_from([1e-6, 1.0, 300.0]))
    odd = slice(None, None, draw(st.sampled_from([2, 7, 1000])))
    x[:, odd] *= draw(st.sampled_from([0.0, 1.0, 100.0]))
    return weights, x


def per_weight(grid: Grid, part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Scale or zero-point of each weight: [out, in] float64."""
    wide = part.double().repeat_interleave(grid.columns, 1)[:, : like.shape[1]]
    return wide.expand_as(like)


def reach(grid: Grid, scheme: Scheme) -> torch.Tensor:
    """How far a weight may be from its code: like `scale`, float64.

    A step: half of it for rounding, and half at an end that the rounded scale and
    zero-point cut off. Both are only as exact as fp16 where the zero-point is real.
    """
    step = grid.scale.double()
    inexact = 2**-10 if has_real_zero(scheme) else 0
    return 1.001 * step + inexact * (grid.zero_point * step).abs()


def check_codes(cell: Cell, weight: torch.Tensor, scheme: Scheme) -> None:
    """What holds for every cell, whoever made it."""
    levels = 2**cell.bits - 1
    assert cell.codes.shape == weight.shape
    assert cell.codes.dtype == torch.uint8
    assert int(cell.codes.max()) <= levels
    assert cell.scale.dtype == torch.float16
    assert cell.scale.numel() == scheme.grids(*weight.shape)
    assert bool((cell.scale > 0).all())
    assert bool(cell.scale.isfinite().all())
    assert bool(cell.zero_point.isfinite().all())
    if scheme.symmetric or scheme.group_size != "tensor":
        assert bool((cell.zero_point >= 0).all())
        assert bool((cell.zero_point <= levels).all())
    assert bool(dequantize(cell).isfinite().all())
