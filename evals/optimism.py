"""Optimism: by how much scores are too good on the samples by which they were chosen.

What is measured on two sets of samples, the set that things are chosen on and another,
says by how much the first is easier and by how much what was chosen there is too good
on it (Efron, "Estimating the error rate of a prediction rule", JASA 78, 1983). What is
measured on the first set alone is predicted for the other from that: best linear
unbiased prediction (Robinson, Statistical Science 6, 1991) with the covariance that the
scores of single samples have. Those that came out above others are drawn towards them,
as they are lucky in part (Efron and Morris, JASA 70, 1975).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Switches = NDArray[np.bool_]

# standard deviations to either side of a 95 % interval
SIDE = 1.96
# variances below this share of the largest are none; and where all are 0, the least
SLIGHT, LEAST = 1e-9, 1e-12


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Scores of one set of samples as another set would give them.

    The difference of the two sets is a shift that all share, an optimism of those that
    were chosen, the luck of each of those, and what the samples happen to be like: the
    more alike, the more two fail on the same samples. The optimism is as many standard
    deviations for all: of the noise that a row does not share with what was not chosen.

    Attributes:
        values: [k, n], the score of each sample of the first set.
        known: [k], scores on the other set, NaN where nobody measured it.
        size: samples of the other set; where known rows have but the first of them, as
            many for each row.
        groups: k names of what was chosen for one purpose on the first set; None for
            what was not chosen there.
        expected: the optimism, in standard deviations, where nothing that was chosen is
            known, and its variance.
        strata: sizes of parts of the first set that stand one behind the other.
    """

    values: Floats
    known: Floats
    size: int | Sequence[int]
    groups: Sequence[Hashable]
    expected: tuple[float, float] = (0.0, 0.0)
    strata: Sequence[int] = ()

    @cached_property
    def scores(self) -> Floats:
        """[k], scores on the other set: what is known, else what is predicted."""
        found: Floats = self.values.mean(axis=1) - self._fit[0]
        return found

    @cached_property
    def covariance(self) -> Floats:
        """[k, k], of the errors of `scores`: both of the samples and of predicting."""
        found: Floats = self._spread / self._both + self._fit[1]
        return found

    @cached_property
    def _both(self) -> Floats:
        """[k, k], by how many samples of the other set two rows vary together.

        Of two means, one over the first samples of the other, the longer one's.
        """
        sizes = np.broadcast_to(
            np.asarray(self.size, dtype=np.float64), len(self.known)
        )
        return np.maximum.outer(sizes, sizes)

    @cached_property
    def _spread(self) -> Floats:
        """[k, k], covariance of the scores of single samples."""
        return spread(self.values, self.strata)

    @cached_property
    def _fit(self) -> tuple[Floats, Floats]:
        own, samples = self.values.mean(axis=1), self.values.shape[1]
        noise = self._spread * (1 / samples + 1 / self._both)
        chosen = np.array([group is not None for group in self.groups])
        lucky = luck(own, self._spread / samples, self.groups)
        known = bool(np.isfinite(self.known[chosen]).any())
        expected = (0.0, np.inf) if known else self.expected
        noises = own_noise(self._spread / samples, chosen)
        gaps, errors = predict(noise, own - self.known - lucky, noises, expected)
        return gaps + lucky, errors


def spread(values: Floats, strata: Sequence[int] = ()) -> Floats:
    """Covariance [k, k] of values [k, n] over samples, within their strata.

    Drawn a little towards its diagonal, the more so the more rows there are for the
    samples: what hardly differs on few samples may differ on others.
    """
    count, samples = values.shape
    parts = np.split(values, np.cumsum(strata)[:-1], axis=1) if strata else [values]
    centred = np.hstack([part - part.mean(axis=1, keepdims=True) for part in parts])
    found = centred @ centred.T / samples
    variances = np.diag(found)
    own = np.diag(variances + SLIGHT * variances.max(initial=0.0) + LEAST)
    drawn: Floats = found + (own - found) * count / (count + samples)
    return drawn


def own_noise(noise: Floats, chosen: Switches) -> Floats:
    """Standard deviation, [k], of what a chosen row does not share with the others.

    0 for those that were not chosen.

    Args:
        noise: [k, k], covariance of the scores.
        chosen: [k].
    """
    others = np.flatnonzero(~chosen)
    weights = noise[:, others] @ np.linalg.inv(noise[np.ix_(others, others)])
    rest = np.diag(noise) - np.einsum("ij,ij->i", weights, noise[:, others])
    found: Floats = chosen * np.sqrt(np.maximum(rest, 0.0))
    return found


def luck(scores: Floats, noise: Floats, groups: Sequence[Hashable]) -> Floats:
    """What each score owes to its samples alone, [k], expected from its own group.

    Of what scores lie above their group's mean, the share that the noise explains; one
    share for all groups, that of none is None and has none.

    Args:
        scores: [k].
        noise: [k, k], their covariance.
        groups: k names.
    """
    above, explained, freedom = np.zeros(len(scores)), 0.0, 0
    for group in dict.fromkeys(each for each in groups if each is not None):
        at = np.flatnonzero([each == group for each in groups])
        above[at] = scores[at] - scores[at].mean()
        among = noise[np.ix_(at, at)]
        explained += float(np.trace(among) - among.sum() / len(at))
        freedom += len(at) - 1
    total = float(above @ above)
    return above * min(1.0, explained / total) if freedom and total > 0 else 0 * above


def predict(
    noise: Floats, gaps: Floats, shares: Floats, optimism: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Gaps between two sets, of all from those known; and the covariance of the errors.

    Args:
        noise: [k, k], covariance of the gaps.
        gaps: [k], NaN where unknown.
        shares: [k], what each has of the optimism.
        optimism: what is expected of it, and the variance of that.
    """
    at = np.flatnonzero(np.isfinite(gaps))
    # the shift of all, and the optimism beyond what is expected of it
    design = np.column_stack([np.ones(len(shares)), shares])
    expected = shares * optimism[0]
    precision = np.diag([0.0, 1 / max(optimism[1], LEAST)])
    if not len(at):
        # nothing says how the sets differ
        design, precision = design[:, 1:], precision[1:, 1:]
    inverse = np.linalg.inv(noise[np.ix_(at, at)])
    own, weights = design[at], noise[:, at] @ inverse
    variance = np.linalg.pinv(own.T @ inverse @ own + precision)
    effects = variance @ own.T @ inverse @ (gaps - expected)[at]
    rest = design - weights @ own
    found = expected + design @ effects
    found += weights @ ((gaps - expected)[at] - own @ effects)
    errors = noise - weights @ noise[at] + rest @ variance @ rest.T
    return found, errors


def look_optimism(
    values: Floats, chosen: Switches, looked: Switches, strata: Sequence[int] = ()
) -> tuple[float, float]:
    """By how much what was chosen by looks at a part of the samples is too good on all.

    What was chosen by them is compared with what was not, on the part and on the rest.

    Args:
        values: [k, n], the score of each sample.
        chosen: [k], what was chosen by looks.
        looked: [n], the samples that were looked at.
        strata: as in `Elsewhere`.

    Returns:
        The optimism in standard deviations (`own_noise`), and the variance of that; 0
        and 0 where nothing says.
    """
    count, rest = len(looked), int((~looked).sum())
    if not rest or rest == count or not chosen.any() or chosen.all():
        return 0.0, 0.0
    apart = spread(values, strata)
    noise = apart * (1 / rest - 1 / count)
    gaps = values.mean(axis=1) - values[:, ~looked].mean(axis=1)
    inverse = np.linalg.inv(noise)
    shares = own_noise(apart / count, chosen)
    design = np.column_stack([np.ones(len(chosen)), shares])
    variance = np.linalg.pinv(design.T @ inverse @ design)
    return float((variance @ design.T @ inverse @ gaps)[1]), float(variance[1, 1])
