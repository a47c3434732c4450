"""Bootstrap intervals of means over samples, of what was chosen by these means too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.records import Interval

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 2_000
# what an interval of 95 % leaves out on either side, in percent
OUTSIDE = 2.5
# counts of the samples in a block of draws: 8 MB
BLOCK = 1_000_000


@dataclass(frozen=True)
class Draws:
    """Means of rows of values, and what they are on draws of the samples.

    All rows are of the same samples and see the same draws, so differences are paired.
    `means` are [rows]; `errors` [DRAWS, rows] say how far the mean over a draw lies
    below the mean over all samples, which stands for how far that lies below the truth
    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    Where a row was chosen for its mean, the interval has to hold for whichever would
    have been chosen: below it reaches as far as the largest error of all of them in a
    draw, not as far as the one's own (simultaneous intervals after selection: Berk et
    al., Annals of Statistics 41, 2013). Above, the chosen one's own error is enough:
    if it lies too low, what is truly best lies as low at least.
    """

    means: Floats
    errors: Floats

    @staticmethod
    def of(
        rows: Sequence[Sequence[float]] | Floats,
        seed: int = 0,
        strata: Sequence[int] = (),
    ) -> Draws:
        """Draw as many samples as there are, with replacement, DRAWS times.

        Args:
            rows: values [rows, samples].
            seed: of the draws.
            strata: sizes of parts that stand one behind the other and are drawn from
                separately, such as the samples of several tasks; empty: one part.
        """
        table = np.asarray(rows, dtype=np.float64)
        # exact sums: equal scores are equal, in whatever order samples stand
        means = np.array([math.fsum(row) for row in table]) / table.shape[1]
        rng = np.random.default_rng(seed)
        totals = np.zeros((DRAWS, len(table)))
        # less the mean, so that a row without spread has no error at all
        centred = means[:, None] - table
        ends = np.cumsum(strata or [table.shape[1]])
        for part in np.split(centred, ends[:-1], axis=1):
            totals += _totals(part, rng)
        return Draws(means, totals / table.shape[1])

    @property
    def drawn(self) -> Floats:
        """Means over the draws: [DRAWS, rows]."""
        return self.means - self.errors

    def score(self, at: int, among: Collection[int] = ()) -> Interval:
        """The mean of a row that was chosen among others as the highest.

        `among` are all rows that may have been chosen; empty: nothing was.
        """
        return _interval(self.means[at], self._worst(at, among), -self.errors[:, at])

    def difference(
        self,
        at: int,
        rival: int,
        among: Collection[int] = (),
        rivals: Collection[int] = (),
    ) -> Interval:
        """How much higher a row is than a rival, both chosen as the highest.

        `rivals` are the rows that may have been chosen as the rival. That the rival was
        chosen makes the difference small, so it counts above alone.
        """
        if at == rival:
            return Interval(0.0, 0.0, 0.0)
        return _interval(
            self.means[at] - self.means[rival],
            self._worst(at, among) - self.errors[:, rival],
            self._worst(rival, rivals) - self.errors[:, at],
        )

    def share(self, at: int, whole: int, among: Collection[int] = ()) -> Interval:
        """A row's mean as a share of another's, by the first order of both errors."""
        scale = self.means[whole] or 1.0
        share = 1 + (self.means[at] - self.means[whole]) / scale
        given = share * self.errors[:, whole]
        return _interval(
            share,
            (self._worst(at, among) - given) / scale,
            (given - self.errors[:, at]) / scale,
        )

    def winners(self, among: Sequence[int]) -> set[int]:
        """Those of some rows that are the highest in any of the draws."""
        rows = np.asarray(among)
        return {int(rows[at]) for at in np.unique(self.drawn[:, rows].argmax(axis=1))}

    def _worst(self, at: int, among: Collection[int]) -> Floats:
        """The largest error [DRAWS] of a row and those beside which it was chosen."""
        worst: Floats = self.errors[:, sorted({at, *among})].max(axis=1)
        return worst


def surplus(
    values: Sequence[float],
    whole: Sequence[float],
    share: float,
    confidence: float,
    *,
    strata: Sequence[int] = (),
    size: int | None = None,
) -> float:
    """What values surely have beyond a share of others of the same samples, on average.

    A one-sided bound: the truth lies above it with probability `confidence`. It is that
    of a normal mean with one more sample, on which all is lost: without it, too few
    samples with a loss among them look like none (of 200 to 500 samples, 6 to 9 % of
    bounds of 95 % were too high, those of the bootstrap as well; 2 to 5 % with it).

    Args:
        values: one for each sample.
        whole: the same of what the share is of.
        share: above 0, at most 1.
        confidence: from 0.5 on, below 1.
        strata: sizes of parts that stand one behind the other.
        size: of another set of such samples, for which the bound is to be; the default
            is this one.
    """
    given = share * np.asarray(whole, dtype=np.float64)
    table = np.asarray(values, dtype=np.float64) - given
    size = size or len(table)
    parts = np.split(table, np.cumsum(strata or [len(table)])[:-1])
    within = sum(((part - part.mean()) ** 2).sum() for part in parts) / len(table)
    mean = math.fsum(table) / len(table)
    lost = -float(given.max()) - mean
    squares = size * within + lost**2 * size / (size + 1)
    error = math.sqrt(squares / size / (size + 1))
    return mean + lost / (size + 1) - NormalDist().inv_cdf(confidence) * error


def bootstrap(
    values: Sequence[float], seed: int = 0, strata: Sequence[int] = ()
) -> Interval:
    """Mean of per-sample values with its 95 % percentile interval: nothing was chosen.

    For the difference of two models pass the differences on the same samples. For
    `seed` and `strata` see `Draws.of`.

    >>> bootstrap([1.0, 1.0]).ci95
    [1.0, 1.0]
    """
    return Draws.of([values], seed, strata).score(0)


def _interval(mean: float, under: Floats, over: Floats) -> Interval:
    """A mean, and how far below and above it the truth may be."""
    low, high = (np.percentile(errors, 100 - OUTSIDE) for errors in (under, over))
    return Interval(float(mean), float(mean - low), float(mean + high))


def _totals(rows: Floats, rng: np.random.Generator) -> Floats:
    """Sums of rows [rows, samples] over draws of their samples: [DRAWS, rows]."""
    size = rows.shape[1]
    times = np.empty((max(1, min(DRAWS, BLOCK // size)), size))
    found = []
    for start in range(0, DRAWS, len(times)):
        block = times[: DRAWS - start]
        for draw in block:
            # how often it holds each sample
            chosen = rng.integers(size, size=size, dtype=np.int32)
            draw[:] = np.bincount(chosen, minlength=size)
        found.append(block @ rows.T)
    return np.concatenate(found)
