"""Whether quantizing two components together costs more than the sum of each alone.

Where the rows hold the four corners of a rectangle, the question needs no model: the
corners are a setting, the same with the first component at full precision, with the
second, and with both, everything else equal. The excess of a rectangle is

    loss(both) - loss(first alone) - loss(second alone)
        = score(first alone) + score(second alone) - score(both) - score(neither).

Where there are too few rectangles, as in a search, which never measures most corners,
the scores are fitted by least squares. Rounding to b bits leaves noise in proportion to
4^-b, so the terms are the noise of every column, the squared noise of every component
(losses are not in proportion to noise), and the product of the two components' noise.
At full precision the noise is 0: the product's part of a row is what both together do
beyond each alone, the very same excess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from allocator.core.errors import SpecError
from surrogate.rows import checked, distinct, standardized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

MIN_RECTANGLES = 8
# least squares: rows there must be, and rows for every term
MIN_ROWS, ROWS_A_TERM = 20, 3
DRAWS = 1000
# smallest over largest eigenvalue of terms that cannot be told apart
SINGULAR = 1e-10


@dataclass(frozen=True)
class Excess:
    """What quantizing two components together costs beyond the sum of each alone.

    `excess` is in score units, above 0 where both together lose more; it is the mean
    over `count` rectangles (`basis` "measured") or over `count` rows with both
    quantized ("fitted"). `ci95` is its bootstrap interval.
    """

    first: str
    second: str
    excess: float
    ci95: tuple[float, float]
    basis: Literal["measured", "fitted"]
    count: int


def interaction_contrast(  # noqa: PLR0913, two components of a table and what its columns mean
    bits: ArrayLike,
    scores: ArrayLike,
    owners: Sequence[str],
    first: str,
    second: str,
    *,
    full: float = 16.0,
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> Excess | None:
    """Compare the loss of two components together with the sum of their losses.

    The interval of rectangles draws the settings of the first component, those of the
    second and those of the rest, each on their own and with repetition: rectangles
    that share a setting share its scores and are not independent. The interval of the
    fit draws rows.

    Args:
        bits: [n, k], the columns; equal rows are averaged.
        scores: [n], higher is better.
        owners: the component of every column.
        first: a component.
        second: another one.
        full: bits of full precision.
        weights: k sizes of the columns, their shares in a component's noise; None
            counts every column the same.
        seed: of the bootstrap.

    Returns:
        None where the rows cannot tell: too few rectangles and too few rows, or
        components that were never told apart.

    Raises:
        SpecError: shapes that do not match, numbers that are not finite, or components
            that own no column or are the same.
    """
    table, values, _ = distinct(*checked(bits, scores, owners))
    share = np.ones(len(owners)) if weights is None else np.asarray(weights, float)
    _check_question(owners, first, second, share)
    rng = np.random.default_rng(seed)
    names = [first, second, *sorted({*owners} - {first, second})]
    member = np.array([[owner == name for owner in owners] for name in names])
    found = _measured(table, values, (member[0], member[1]), full, rng)
    if found is not None:
        return Excess(first, second, *found[:2], "measured", found[2])
    found = _fitted(table, values, member * share, full, rng)
    return (
        None if found is None else Excess(first, second, *found[:2], "fitted", found[2])
    )


def _check_question(
    owners: Sequence[str], first: str, second: str, share: Array
) -> None:
    if first == second or not {first, second} <= set(owners):
        raise SpecError(
            f"two components of {sorted(set(owners))} are needed, "
            f"got {first} and {second}"
        )
    if share.shape != (len(owners),) or not (share > 0).all():
        raise SpecError(f"{len(owners)} columns need as many weights above 0")


def _measured(
    table: Array,
    values: Array,
    sides: tuple[Mask, Mask],
    full: float,
    rng: np.random.Generator,
) -> tuple[float, tuple[float, float], int] | None:
    """Mean excess of the rectangles, its interval, and how many there are."""
    score = {tuple(row): value for row, value in zip(table, values, strict=True)}
    excess, settings = [], []
    parts = (*sides, ~(sides[0] | sides[1]))
    for row, value in zip(table, values, strict=True):
        if any((row[side] == full).all() for side in sides):
            continue
        one, two = (np.where(side, full, row) for side in sides)
        neither = np.where(sides[0], full, two)
        corners = [score.get(tuple(corner)) for corner in (two, one, neither)]
        if None not in corners:
            alone, other, none = (corner or 0.0 for corner in corners)
            excess.append(alone + other - value - none)
            settings.append([tuple(row[part]) for part in parts])
    labels = [_numbered(part) for part in zip(*settings, strict=True)]
    # an interval over the settings of a side takes two of them
    if len(excess) < MIN_RECTANGLES or min(labels[0].max(), labels[1].max()) < 1:
        return None
    found = np.array(excess)
    counts = np.ones((DRAWS, len(found)))
    for label in labels:
        number = int(label.max()) + 1
        drawn = rng.multinomial(number, np.full(number, 1 / number), DRAWS)
        counts *= drawn[:, label]
    # a draw may miss every rectangle where few of the possible ones were measured
    counts = counts[counts.sum(axis=1) > 0]
    means = counts @ found / counts.sum(axis=1)
    return float(found.mean()), _interval(means), len(found)


def _numbered(settings: Sequence[tuple[float, ...]]) -> NDArray[np.intp]:
    numbers = {
        setting: number for number, setting in enumerate(dict.fromkeys(settings))
    }
    return np.array([numbers[setting] for setting in settings])


def _fitted(
    table: Array, values: Array, member: Array, full: float, rng: np.random.Generator
) -> tuple[float, tuple[float, float], int] | None:
    """Mean part of the product term, its interval, and the rows with both quantized.

    `member` [components, k] are the weights of every component's columns, the two
    components that are asked for first.
    """
    scaled = standardized(values)
    noise = 4.0**-table - 4.0**-full
    parts = noise @ (member / member.sum(axis=1, keepdims=True)).T
    both = (parts[:, 0] > 0) & (parts[:, 1] > 0)
    product = parts[:, 0] * parts[:, 1]
    if scaled is None or not both.any() or np.ptp(product) == 0:
        return None
    # columns one by one where the rows suffice, else their components
    additive = noise if len(values) >= ROWS_A_TERM * _terms(noise, parts) else parts
    if len(values) < max(MIN_ROWS, ROWS_A_TERM * _terms(additive, parts)):
        return None
    design = np.column_stack([additive, parts**2, product])
    design = design[:, np.ptp(design, axis=0) > 0]
    design = np.column_stack([np.ones(len(values)), design / design.std(axis=0)])
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), DRAWS)
    slopes = _slopes(design, scaled[0], np.vstack([np.ones(len(values)), counts]))
    known = slopes[1:][np.isfinite(slopes[1:])]
    if not np.isfinite(slopes[0]) or len(known) < DRAWS / 2:
        return None
    # a gain per deviation of the product becomes a loss at its mean
    unit = -scaled[2] * float(product[both].mean() / product.std())
    return unit * float(slopes[0]), _interval(unit * known), int(both.sum())


def _terms(additive: Array, parts: Array) -> int:
    """Coefficients of a fit: constant, additive part, squares, product."""
    return int(additive.shape[1] + parts.shape[1] + 2)


def _slopes(design: Array, target: Array, counts: Array) -> Array:
    """Least squares' last coefficient for rows taken so often, NaN where it is unknown.

    Args:
        design: [n, terms].
        target: [n].
        counts: [draws, n].
    """
    terms = design.shape[1]
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(target), -1)
    gram = (counts @ squares).reshape(-1, terms, terms)
    size = np.linalg.eigvalsh(gram)
    known = size[:, 0] > SINGULAR * size[:, -1]
    slopes = np.full(len(counts), np.nan)
    moments = counts[known] @ (design * target[:, None])
    slopes[known] = np.linalg.solve(gram[known], moments[:, :, None])[:, -1, 0]
    return slopes


def _interval(draws: Array) -> tuple[float, float]:
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)
