"""Bootstrap intervals of a mean over samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.core.records import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

DRAWS = 2_000


def bootstrap(
    values: Sequence[float], seed: int = 0, strata: Sequence[int] = ()
) -> Interval:
    """Mean of per-sample values with its 95 % percentile interval.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. For the
    difference of two models pass the differences on the same samples: it is paired.

    Args:
        values: one for each sample.
        seed: of the draws.
        strata: sizes of parts that stand one behind the other and are drawn from
            separately, such as the samples of several tasks; empty: one part.

    >>> bootstrap([1.0, 1.0]).ci95
    [1.0, 1.0]
    """
    table = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    parts = np.split(table, np.cumsum(strata)[:-1]) if strata else [table]

    def drawn() -> float:
        total = sum(p[rng.integers(len(p), size=len(p))].sum() for p in parts)
        return float(total) / len(table)

    # one draw at a time: a table of draws x samples could be large
    means = [drawn() for _ in range(DRAWS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(table.mean()), float(low), float(high))
