"""Cheap looks before full measurements: few samples first, survivors see more.

Successive halving (Jamieson and Talwalkar, arXiv 1502.07943): all candidates are looked
at on few samples, the best of them on more, the best of those is measured in full. All
looks of a rung are on the same samples, so that they are paired. What is looked at is
the divergence from full precision; where that turns out not to predict the score, the
score of the few samples itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.records import RungReport
from surrogate.importance import spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample

    Look = tuple[str, Allocation, tuple[str, int], float]
    from allocator.strategies._base import Candidate

# samples of each rung, and how many candidates outlive it
SIZES = (32, 128)
OUTLIVE = (6, 1)
DIVERGENCE, SCORE = "divergence", "score"
# below it a cheap look does not predict the score well enough to choose by
LEAST_CORRELATION = 0.5
# pairs before a correlation says anything
FEWEST = 8


def spread_out(samples: Sequence[Sample], count: int) -> Sequence[Sample]:
    """Evenly spaced samples: several tasks stand behind one another in a set."""
    if count >= len(samples):
        return samples
    places = np.linspace(0, len(samples), count, endpoint=False).astype(int)
    return [samples[place] for place in places]


@dataclass
class Rungs:
    """The looks taken so far, and who outlives them.

    `look(allocation, kind, samples)` takes one; `prefix(allocation)` names what of it
    decides how images are encoded: candidates of one name are looked at in a row.
    `looks` holds, by digest, an allocation and the value of each (kind, samples);
    `fresh` those taken since somebody emptied it.
    """

    look: Callable[[Allocation, str, int], float]
    prefix: Callable[[Allocation], str]
    sizes: tuple[int, ...] = SIZES
    looks: dict[str, tuple[Allocation, dict[tuple[str, int], float]]] = field(
        default_factory=dict
    )
    fresh: list[tuple[Allocation, tuple[str, int], float]] = field(default_factory=list)

    @staticmethod
    def recalled(looks: Iterable[Look]) -> Rungs:
        """Looks that a study keeps, without a model to take more."""
        rungs = Rungs(_never, lambda allocation: allocation.digest)
        rungs.recall(looks)
        return rungs

    def recall(self, looks: Iterable[Look]) -> None:
        """Learn looks that a study keeps: budget, allocation, (kind, samples), value."""
        for _, allocation, key, value in looks:
            self.learn(allocation, key, value)

    def learn(self, allocation: Allocation, key: tuple[str, int], value: float) -> None:
        """Remember a look."""
        self.looks.setdefault(allocation.digest, (allocation, {}))[1][key] = value

    def value(self, allocation: Allocation, kind: str, size: int) -> float:
        """A look, taken if it was not: the higher the better."""
        known = self.looks.get(allocation.digest, (allocation, {}))[1]
        if (kind, size) not in known:
            value = self.look(allocation, kind, size)
            self.learn(allocation, (kind, size), value)
            self.fresh.append((allocation, (kind, size), value))
            known = self.looks[allocation.digest][1]
        return _sign(kind) * known[kind, size]

    def look_at(self, allocation: Allocation, kind: str) -> None:
        """Take the looks of all rungs."""
        for size in self.sizes:
            self.value(allocation, kind, size)

    @staticmethod
    def name(kind: str, size: int) -> str:
        """A look's name among a trial's attributes."""
        return f"{kind} on {size} samples"

    def of(self, allocation: Allocation) -> dict[str, float]:
        """What was looked at, as attributes of a trial."""
        known = self.looks.get(allocation.digest, (allocation, {}))[1]
        return {self.name(*key): value for key, value in known.items()}

    def survivor(
        self,
        candidates: Sequence[Candidate],
        measured: Sequence[tuple[Allocation, float]],
    ) -> Candidate:
        """The candidate that outlives all rungs."""
        kind = self.kind(measured)
        left = list(candidates)
        for size, outlive in zip(self.sizes, OUTLIVE[-len(self.sizes) :], strict=True):
            left.sort(key=lambda c: self.prefix(c.allocation))
            values = {
                c.allocation.digest: self.value(c.allocation, kind, size) for c in left
            }
            left.sort(key=lambda c: -values[c.allocation.digest])
            left = left[:outlive]
        return left[0]

    def kind(self, measured: Sequence[tuple[Allocation, float]]) -> str:
        """What to look at: the divergence, until it turns out to predict nothing."""
        found = self.report(DIVERGENCE, self.sizes[-1], measured)
        if found.count < FEWEST or found.spearman is None:
            return DIVERGENCE
        return DIVERGENCE if found.spearman >= LEAST_CORRELATION else SCORE

    def reports(
        self, measured: Sequence[tuple[Allocation, float]]
    ) -> tuple[RungReport, ...]:
        """Reports of all rungs that looked at anything that was measured too."""
        found = (
            self.report(kind, size, measured)
            for kind in (DIVERGENCE, SCORE)
            for size in self.sizes
        )
        return tuple(each for each in found if each.count)

    def report(
        self, kind: str, size: int, measured: Sequence[tuple[Allocation, float]]
    ) -> RungReport:
        """How well one rung's looks predicted the full score."""
        pairs = [
            (_sign(kind) * self.looks[a.digest][1][kind, size], score)
            for a, score in measured
            if (kind, size) in self.looks.get(a.digest, (a, {}))[1]
        ]
        return RungReport(kind, size, len(pairs), correlation(pairs))

    def estimates(
        self, measured: Sequence[tuple[Allocation, float]]
    ) -> tuple[tuple[Allocation, float], ...]:
        """Scores that the largest looks suggest for what was not measured.

        A line through the looks and scores of what was measured; its slope is at least
        that of an allocation whose every changed reply is wrong.
        """
        kind, done = self.kind(measured), {a.digest for a, _ in measured}
        found = []
        for size in self.sizes:
            key = (kind, size)
            slope, offset = self._line(key, measured)
            found += [
                (size, allocation, offset + slope * values[key])
                for digest, (allocation, values) in self.looks.items()
                if key in values and digest not in done
            ]
        largest = {allocation.digest: (allocation, e) for _, allocation, e in found}
        return tuple(largest.values())

    def _line(
        self, key: tuple[str, int], measured: Sequence[tuple[Allocation, float]]
    ) -> tuple[float, float]:
        """Slope and offset of score over look."""
        pairs = [
            (self.looks[a.digest][1][key], score)
            for a, score in measured
            if key in self.looks.get(a.digest, (a, {}))[1]
        ]
        sign = _sign(key[0])
        if len(pairs) < 2 or np.ptp([look for look, _ in pairs]) == 0:
            top = max((score for _, score in measured), default=1.0)
            return (sign * abs(top), top) if sign < 0 else (1.0, 0.0)
        looks, scores = np.array(pairs).T
        slope = sign * max(0.0, sign * float(np.polyfit(looks, scores, 1)[0]))
        return slope, float(scores.mean() - slope * looks.mean())


def _never(allocation: Allocation, kind: str, size: int) -> float:
    raise NotImplementedError(f"no model to look at {allocation.digest} with")


def _sign(kind: str) -> int:
    """+1 where higher is better."""
    return -1 if kind == DIVERGENCE else 1


def correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation; None with fewer than two values on either side."""
    if len(pairs) < 2 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    looks, scores = np.array(pairs, dtype=np.float64).T
    return spearman(looks, scores)
