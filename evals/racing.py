"""Races over growing parts of an evaluation set: who is behind, and by how much.

Rows that are compared have a score for each sample of the same part. A part is drawn
without replacement, so that its mean is off from that of the whole set by less than
that of a sample of all there might be (finite population: Cochran, "Sampling
Techniques", 1977, chapter 2), and questions of one picture count as fewer (design
effect: Kish, "Survey Sampling", 1965).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evals.interval import surplus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def worth(
    values: Floats, pictures: Ints, total: int, strata: Sequence[int] = ()
) -> float:
    """As how many samples of all there might be a part counts, for a whole set's mean.

    Args:
        values: [samples] of the part.
        pictures: [samples], a number for each.
        total: samples of the whole set, more than the part has.
        strata: sizes of parts of the samples that stand one behind the other.
    """
    count = len(values)
    parts = np.split(values, np.cumsum(strata or [count])[:-1])
    errors = np.concatenate([part - part.mean() for part in parts if len(part)])
    alone = float(errors @ errors)
    together = np.bincount(pictures, weights=errors)
    effect = float(together @ together) / alone if alone else 1.0
    return count * total / (total - count) / max(1.0, effect)


def is_behind(
    row: Floats,
    leader: Floats,
    pictures: Ints,
    total: int,
    error: float,
    strata: Sequence[int] = (),
) -> bool:
    """Whether a row lies below a leader on the whole set, surely.

    A one-sided paired test, which is wrong with probability `error` where the two are
    equal on the whole set (`evals.interval.surplus`).

    Args:
        row: [samples], scores of a part.
        leader: [samples], of the same.
        pictures: [samples], a number for each.
        total: samples of the whole set.
        error: of the test.
        strata: sizes of parts of the samples that stand one behind the other.
    """
    size = int(worth(leader - row, pictures, total, strata))
    known = leader.tolist(), row.tolist(), 1.0, 1 - error
    return surplus(*known, strata=strata, size=size) > 0


def completed(
    values: Floats, places: Ints, whole: Floats, strata: Sequence[int] = ()
) -> Floats:
    """A row of a part as one of the whole set: [samples], by what it has to another.

    Their mean is that of the other row, plus the mean difference on the samples that
    both have, stratum by stratum (difference estimator: Cochran, chapter 7). What a
    single value is off from that counts as often as the part goes into the whole, so
    that the spread over the whole set is that of the estimate: intervals of such rows
    are those of paired differences on the part.

    Args:
        values: [part], scores of the part.
        places: [part], its places in the whole set, rising.
        whole: [samples], the other row.
        strata: sizes of parts of the whole set that stand one behind the other.
    """
    found, start = whole.copy(), 0
    for size in strata or (len(whole),):
        own = (places >= start) & (places < start + size)
        if own.any():
            gaps = values[own] - whole[places[own]]
            found[start : start + size] += gaps.mean()
            found[places[own]] += (gaps - gaps.mean()) * size / own.sum()
        start += size
    return found
