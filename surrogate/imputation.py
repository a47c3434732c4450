"""Scores that cheap looks suggest, and the error that such a suggestion carries.

What was looked at and not measured is given the score that least squares over the
looks of the measured rows expects. Rows are chosen for measuring by their looks, and
by nothing else that says anything of their scores: that choice leaves the regression of
scores on looks unbiased, however narrow the range of what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

# rows measured and looked at alike before anything is expected of other rows
FEWEST = 8


@dataclass(frozen=True, eq=False)
class Line:
    """Least squares of scores over looks, for rows that have the same looks.

    `rows` [m] are the numbers of these rows and `design` [m, p] a constant and their
    looks; `slopes` [p] are the coefficients, `root` [p, p] a square root of their
    covariance in units of the residual `variance`, of which `freedom` degrees are left.
    """

    rows: NDArray[np.intp]
    design: Array
    slopes: Array
    root: Array
    variance: float
    freedom: int

    @property
    def expected(self) -> Array:
        """What the looks suggest, [m]."""
        found: Array = self.design @ self.slopes
        return found

    def draw(self, rng: np.random.Generator) -> Array:
        """Scores that these rows may have, [m].

        As in proper imputation (Rubin, "Multiple Imputation for Nonresponse in
        Surveys", 1987, section 5.3): residual variance, coefficients and the residual
        of each row are all drawn.
        """
        deviation = (self.variance * self.freedom / rng.chisquare(self.freedom)) ** 0.5
        off = self.root @ rng.normal(size=len(self.slopes))
        residuals = rng.normal(size=len(self.rows))
        found: Array = self.expected + deviation * (self.design @ off + residuals)
        return found

    @property
    def worth(self) -> float:
        """How many measured rows tell as much as these.

        Each counts by the share of its score's variance that is known: of the spread
        of what is expected, less what the coefficients' errors add to it, and the
        residual with these errors.
        """
        off = self.variance * ((self.design @ self.root) ** 2).sum(axis=1).mean()
        spread = max(0.0, float(self.expected.var()) - float(off))
        total = spread + self.variance + float(off)
        return len(self.rows) * spread / total if total > 0 else float(len(self.rows))


@dataclass(frozen=True, eq=False)
class Imputation:
    """Scores of n rows: measured where `measured` [n], else what looks suggest.

    `expected` [n] has both, and `lines` say how sure what is suggested is.
    """

    expected: Array
    measured: Mask
    lines: tuple[Line, ...]

    def draw(self, rng: np.random.Generator) -> Array:
        """Scores that the rows may have, [n]; what was measured stays."""
        scores = self.expected.copy()
        for line in self.lines:
            scores[line.rows] = line.draw(rng)
        return scores

    @property
    def worth(self) -> float:
        """How many measured rows tell as much as these."""
        return float(self.measured.sum()) + sum(line.worth for line in self.lines)


def impute(scores: ArrayLike, looks: ArrayLike) -> tuple[NDArray[np.intp], Imputation]:
    """Expect scores of what was looked at.

    Args:
        scores: [n], NaN where nothing was measured.
        looks: [n, kinds], NaN where none was taken. Rows with a look that is not finite
            are left out unless they were measured, and so are those whose looks fewer
            than eight measured rows have, for each look one row more.

    Returns:
        The numbers [m] of the rows that are kept, and their imputation.
    """
    known = np.asarray(scores, dtype=np.float64)
    seen = np.asarray(looks, dtype=np.float64)
    seen = seen.reshape(len(known), -1 if seen.size else 0)
    measured, taken = np.isfinite(known), ~np.isnan(seen)
    kept, fits = measured.copy(), []
    for kinds in np.unique(taken[~measured], axis=0):
        rows = ~measured & (taken == kinds).all(axis=1)
        rows &= np.isfinite(seen[:, kinds]).all(axis=1)
        pairs = measured & np.isfinite(seen[:, kinds]).all(axis=1)
        count = int(kinds.sum())
        if count and rows.any() and pairs.sum() >= FEWEST + count:
            kept |= rows
            fits.append((rows, _fitted(seen[pairs][:, kinds], known[pairs]), kinds))
    numbers = np.flatnonzero(kept)
    expected, place = known.copy(), np.cumsum(kept) - 1
    lines = []
    for rows, fit, kinds in fits:
        line = Line(place[rows], _design(seen[rows][:, kinds]), *fit)
        expected[rows] = line.expected
        lines.append(line)
    found = Imputation(expected[numbers], measured[numbers], tuple(lines))
    return numbers, found


def _design(looks: Array) -> Array:
    return np.column_stack([np.ones(len(looks)), looks])


def _fitted(looks: Array, scores: Array) -> tuple[Array, Array, float, int]:
    """Slopes, root of their covariance, residual variance, degrees of freedom."""
    design = _design(looks)
    # looks that say the same share their slope
    inverse = np.linalg.pinv(design)
    slopes = inverse @ scores
    freedom = len(scores) - int(np.linalg.matrix_rank(design))
    variance = float(((scores - design @ slopes) ** 2).sum() / freedom)
    left, sizes, _ = np.linalg.svd(inverse, full_matrices=False)
    return slopes, left * sizes, variance, freedom
