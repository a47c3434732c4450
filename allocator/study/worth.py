"""What looks are worth: their rank correlation with scores, where looks also chose.

Baselines differ so much that anything agrees about them, and what a look put first
differs little in that look. So allocations are compared within their budget alone, some
of them drawn by chance, and the correlation is corrected for the range of the look
among those.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, atanh, hypot, pi, sin, sqrt, tanh
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from surrogate.rows import ranks

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Places = NDArray[np.intp]

# allocations drawn by chance before their range says anything
FEWEST_DRAWN = 3
# nearer to 1 Fisher's transform says more than so few ranks can
ALMOST_ONE = 0.999


@dataclass(frozen=True)
class Pair:
    """An allocation's look, and its score on samples that the look did not see.

    Higher is better on both sides. Only allocations of one `place`, a budget, are
    compared. `drawn` says that chance chose it to be looked at, and not the look.
    """

    look: float
    score: float | None
    place: Hashable
    drawn: bool


@dataclass(frozen=True)
class Worth:
    """A rank correlation over `count` allocations, `drawn` of them by chance.

    None where there is nothing to correlate; `error` is the standard error of its
    Fisher transform, below and above, None where there is too little for one.
    """

    count: int
    drawn: int
    spearman: float | None = None
    error: tuple[float, float] | None = None

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """The two-sided interval of a confidence, such as 0.95."""
        if self.spearman is None or self.error is None:
            return None
        wide = NormalDist().inv_cdf(0.5 + confidence / 2)
        middle = _transformed(_pearson(self.spearman))
        below, above = self.error
        ends = middle - wide * below, middle + wide * above
        return _spearman(tanh(ends[0])), _spearman(tanh(ends[1]))


def worth(looked: Sequence[Pair]) -> Worth:
    """How well looks rank allocations of one budget, as chance would draw them.

    The correlation of looks with the normal scores of the scores' ranks, within
    budgets, corrected for the range of the look (Thorndike, Personnel Selection, 1949,
    case 2): chosen allocations may lie closer together than those that chance draws
    or, taken together with these, further apart. Its error is that of Bonett and Wright
    (Psychometrika 65, 2000) with the error of that range. Given as Spearman's
    coefficient, by the relation of the two in a normal distribution.

    Args:
        looked: with a score or without; the latter say something about the range.
    """
    pairs = [pair for pair in looked if pair.score is not None]
    drawn = sum(pair.drawn for pair in pairs)
    if len(pairs) < 2:
        return Worth(len(pairs), drawn)
    places = _places(pairs)
    looks = _centred(places, _finite([pair.look for pair in pairs]))
    scores = _normal(places, np.array([pair.score for pair in pairs]))
    # looks that differ by nothing but rounding do not differ
    if min(np.ptp(looks), np.ptp(scores)) < 1e-12:
        return Worth(len(pairs), drawn)
    raw = float(np.clip(np.corrcoef(looks, scores)[0, 1], -1, 1))
    ratio, unsure = _range(looked, looks, places)
    found = _corrected(raw, ratio)
    # each budget but the first costs a degree of freedom
    left = len(pairs) - int(places.max()) - 3
    error = None
    if left > 0:
        step = sqrt((1 + raw**2 / 2) / left)
        ends = [_corrected(tanh(_transformed(raw) + s * step), ratio) for s in (-1, 1)]
        middle = _transformed(found)
        below, above = (abs(_transformed(end) - middle) for end in ends)
        error = hypot(below, found * unsure), hypot(above, found * unsure)
    return Worth(len(pairs), drawn, _spearman(found), error)


def _places(pairs: Sequence[Pair]) -> Places:
    """Numbers of the budgets, from 0."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(pair.place, len(known)) for pair in pairs])


def _finite(values: Sequence[float]) -> Array:
    """Looks; one that is no number is as bad as the worst."""
    found = np.array(values, dtype=np.float64)
    known = found[np.isfinite(found)]
    found[~np.isfinite(found)] = known.min() if len(known) else 0.0
    return found


def _centred(places: Places, values: Array) -> Array:
    """Values without the mean of their budget."""
    return values - (np.bincount(places, values) / np.bincount(places))[places]


def _normal(places: Places, values: Array) -> Array:
    """Normal scores of the ranks within each budget."""
    quantile, found = NormalDist().inv_cdf, np.zeros(len(values))
    for place in np.unique(places):
        own = places == place
        shares = (ranks(values[own]) - 0.5) / own.sum()
        found[own] = [quantile(share) for share in shares]
    return _centred(places, found)


def _range(looked: Sequence[Pair], looks: Array, places: Places) -> tuple[float, float]:
    """Spread of the look where chance drew to that of the pairs, and its error."""
    drawn = [pair for pair in looked if pair.drawn]
    own = _places(drawn)
    free = len(drawn) - len(set(own))
    if free < FEWEST_DRAWN - 1:
        return 1.0, 0.0
    wide = _spread(_centred(own, _finite([pair.look for pair in drawn])), free)
    all_free = len(looks) - len(set(places))
    among = _spread(looks, all_free) if all_free else 0.0
    if not wide > 0 or not among > 0:
        return 1.0, 0.0
    return wide / among, 1 / sqrt(2 * free)


def _spread(centred: Array, free: int) -> float:
    return sqrt(float((centred**2).sum()) / free)


def _corrected(raw: float, ratio: float) -> float:
    """A correlation as it would be in a range `ratio` times as wide."""
    return raw * ratio / sqrt(1 + raw**2 * (ratio**2 - 1))


def _transformed(correlation: float) -> float:
    """Fisher's transform."""
    return atanh(min(ALMOST_ONE, max(-ALMOST_ONE, correlation)))


def _spearman(pearson: float) -> float:
    return 6 / pi * asin(pearson / 2)


def _pearson(spearman: float) -> float:
    return 2 * sin(pi / 6 * spearman)
