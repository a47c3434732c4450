"""Tables of measured settings: what is refused, equal rows, folds and fits of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.intp]


def checked(
    bits: ArrayLike, scores: ArrayLike, names: Sequence[str]
) -> tuple[Array, Array]:
    """Bits [n, k] and scores [n] as numbers.

    Raises:
        SpecError: no rows, shapes that do not match, or numbers that are not finite.
    """
    table = np.asarray(bits, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    if table.shape != (len(values), len(names)) or not len(values):
        raise SpecError(
            f"{len(values)} scores and {len(names)} names need a table of that shape "
            f"with at least one row, got {table.shape}"
        )
    if not (np.isfinite(table).all() and np.isfinite(values).all()):
        raise SpecError("importance needs finite bits and scores")
    return table, values


def distinct(table: Array, values: Array) -> tuple[Array, Array, str | None]:
    """Distinct rows in sorted order, their mean scores, a warning if equal rows differ.

    Whatever is computed from them does not depend on the order of the rows.
    """
    rows, where = np.unique(table, axis=0, return_inverse=True)
    # sorted, so that the sums do not depend on the order of the rows
    order = np.lexsort((values, where.reshape(-1)))
    starts = np.flatnonzero(np.diff(where.reshape(-1)[order], prepend=-1))
    equal = np.split(values[order], starts[1:])
    means = np.array([found.mean() for found in equal])
    apart = [found for found in equal if found[0] < found[-1]]
    if not apart:
        return rows, means, None
    warning = (
        f"{sum(map(len, apart))} rows repeat {len(apart)} settings with scores that "
        f"differ by up to {max(map(np.ptp, apart)):.4g}; their scores were averaged."
    )
    return rows, means, warning


def mean_of_equal(table: Array, values: Array) -> Array:
    """Mean value of each distinct row, in the order of `distinct`."""
    where = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)
    means: Array = np.bincount(where, values) / np.bincount(where)
    return means


def first_of_equal(table: Array, clusters: Sequence[int] | Rows) -> Rows:
    """The cluster of each distinct row, in the order of `distinct`."""
    first = np.unique(table, axis=0, return_index=True)[1]
    found: Rows = np.asarray(clusters, dtype=np.intp)[first]
    return found


def standardized(values: Array) -> tuple[Array, float, float] | None:
    """Scores of mean 0 and deviation 1, with both; None if all scores are the same."""
    if not np.ptp(values) > 1e-12 * np.abs(values).max():
        return None
    mean, deviation = float(values.mean()), float(values.std())
    return (values - mean) / deviation, mean, deviation


def folds(
    clusters: Rows, number: int, rng: np.random.Generator
) -> list[tuple[Rows, Rows]]:
    """Row numbers to fit to and row numbers held out, for each of the folds.

    Rows of one cluster [n], numbered from 0 on, are held out together.
    """
    parts = np.array_split(rng.permutation(int(clusters.max()) + 1), number)
    held = [np.isin(clusters, part) for part in parts]
    return [(np.flatnonzero(~each), np.flatnonzero(each)) for each in held]


def r2(predicted: Array, target: Array) -> float:
    """Share of the variance that a prediction explains, 1 at best."""
    return float(1 - np.mean((predicted - target) ** 2) / target.var())


def spearman(a: Array, b: Array) -> float:
    """Rank correlation with ties at their mean rank; 0 where one side is constant."""
    first, second = ranks(a), ranks(b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def ranks(values: Array) -> Array:
    """Ranks from 1, ties at their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: Array = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[where]
