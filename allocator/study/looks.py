"""Cheap looks at allocations, and what they say about full scores.

A look is a low-fidelity evaluation: the divergence from full precision, or the score,
on few samples of the search set. A study keeps them; where it turns out that divergence
does not predict the score, scores of few samples take its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.finite import is_number
from allocator.core.records import RungReport
from surrogate.importance import spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from allocator.core.allocation import Allocation

    Look = tuple[str, Allocation, tuple[str, int], float | None]

DIVERGENCE, SCORE = "divergence", "score"
# what is looked at, on how many samples, and how many candidates outlive it: on few
# samples the divergence tells more than the score, on many the score itself does
LADDER = ((DIVERGENCE, 32, 8), (DIVERGENCE, 128, 4), (SCORE, 256, 1))
# below it a cheap look does not predict the score well enough to choose by
LEAST_CORRELATION = 0.5
# pairs before a correlation says anything
FEWEST = 8


@dataclass
class Looks:
    """The looks taken so far.

    `ladder` are the rungs: what is looked at, on how many samples, and how many
    candidates outlive it. `looks` holds, by digest, an allocation and the value of each
    (kind, samples).
    """

    ladder: tuple[tuple[str, int, int], ...] = LADDER
    looks: dict[str, tuple[Allocation, dict[tuple[str, int], float]]] = field(
        default_factory=dict
    )

    @staticmethod
    def recalled(looks: Iterable[Look]) -> Looks:
        """Looks that a study keeps."""
        found = Looks()
        found.recall(looks)
        return found

    def recall(self, looks: Iterable[Look]) -> None:
        """Learn looks that a study keeps."""
        for _, allocation, key, value in looks:
            self.learn(allocation, key, value)

    def learn(
        self, allocation: Allocation, key: tuple[str, int], value: float | None
    ) -> None:
        """Remember a look; one that is no finite number is the worst there is."""
        known = value if is_number(value) else -sign(key[0]) * np.inf
        self.looks.setdefault(allocation.digest, (allocation, {}))[1][key] = known

    @staticmethod
    def name(kind: str, size: int) -> str:
        """A look's name among a trial's attributes."""
        return f"{kind} on {size} samples"

    def of(self, allocation: Allocation) -> dict[str, float | None]:
        """What was looked at, as attributes of a trial; None for no finite number."""
        seen = self.seen(allocation).items()
        return {self.name(*key): v if is_number(v) else None for key, v in seen}

    def seen(self, allocation: Allocation) -> dict[tuple[str, int], float]:
        """The looks at an allocation, by (kind, samples)."""
        return self.looks.get(allocation.digest, (allocation, {}))[1]

    def rungs(
        self, measured: Sequence[tuple[Allocation, float]]
    ) -> tuple[tuple[str, int, int], ...]:
        """The ladder; of scores alone once the divergence turns out not to predict."""
        if self.trusts(measured):
            return self.ladder
        return tuple((SCORE, size, outlive) for _, size, outlive in self.ladder)

    def trusts(self, measured: Sequence[tuple[Allocation, float]]) -> bool:
        """Whether the divergence predicts the score, for all that is known."""
        found = self.widest(measured)
        if found.count < FEWEST or found.spearman is None:
            return True
        return found.spearman >= LEAST_CORRELATION

    def widest(self, measured: Sequence[tuple[Allocation, float]]) -> RungReport:
        """Report of the divergence on the most samples."""
        sizes = [size for kind, size, _ in self.ladder if kind == DIVERGENCE]
        return self.report(DIVERGENCE, max(sizes, default=0), measured)

    def reports(
        self, measured: Sequence[tuple[Allocation, float]]
    ) -> tuple[RungReport, ...]:
        """Reports of all rungs that looked at anything that was measured too."""
        keys = {(kind, size) for kind, size, _ in self.ladder}
        keys |= {(SCORE, size) for _, size, _ in self.ladder}
        found = (self.report(kind, size, measured) for kind, size in sorted(keys))
        return tuple(each for each in found if each.count)

    def report(
        self, kind: str, size: int, measured: Sequence[tuple[Allocation, float]]
    ) -> RungReport:
        """How well one rung's looks predicted the full score."""
        pairs = [
            (sign(kind) * self.seen(a)[kind, size], score)
            for a, score in measured
            if is_number(self.seen(a).get((kind, size)))
        ]
        return RungReport(kind, size, len(pairs), correlation(pairs))

    def estimates(
        self, measured: Sequence[tuple[Allocation, float]], least: int = 0
    ) -> tuple[tuple[Allocation, float], ...]:
        """Scores that the largest looks suggest, those on `least` samples or more.

        The mean over the kinds of looks, of each the one on the most samples: they err
        differently. What had a look that is no finite number is left out.
        """
        rungs = self.rungs(measured)
        suggests = self._suggests(rungs, measured)
        keys = {(kind, size) for kind, size, _ in rungs if size >= least}
        return tuple(
            (allocation, suggests(values))
            for allocation, values in self.looks.values()
            if keys & values.keys() and all(map(is_number, values.values()))
        )

    @property
    def overflowed(self) -> tuple[Allocation, ...]:
        """What had a look that is no finite number."""
        return tuple(
            allocation
            for allocation, values in self.looks.values()
            if not all(map(is_number, values.values()))
        )

    def known_well(
        self, measured: Sequence[tuple[Allocation, float]]
    ) -> list[tuple[Allocation, float]]:
        """What was measured, and what was looked at on more than the first rung.

        Proposals alone are few and alike: they say little about what matters.
        """
        if len(self.ladder) < 2:
            return list(measured)
        done = {allocation.digest for allocation, _ in measured}
        looked = self.estimates(measured, self.ladder[1][1])
        return [*measured, *(pair for pair in looked if pair[0].digest not in done)]

    def _suggests(
        self,
        rungs: Sequence[tuple[str, int, int]],
        measured: Sequence[tuple[Allocation, float]],
    ) -> Callable[[Mapping[tuple[str, int], float]], float]:
        """What the looks of some rungs suggest of a score; -inf where one is none."""
        lines = {(kind, n): self._line((kind, n), measured) for kind, n, _ in rungs}

        def suggests(values: Mapping[tuple[str, int], float]) -> float:
            if not all(map(is_number, values.values())):
                return -np.inf
            by_kind = {
                key[0]: offset + slope * values[key]
                for key, (slope, offset) in lines.items()
                if key in values
            }
            return sum(by_kind.values()) / len(by_kind)

        return suggests

    def _line(
        self, key: tuple[str, int], measured: Sequence[tuple[Allocation, float]]
    ) -> tuple[float, float]:
        """Slope and offset of score over look, from what has both.

        Scores of few samples are of the same unit. Where nothing is known of the
        divergence, a reply that may change is taken for a wrong one.
        """
        pairs = [
            (self.seen(a)[key], score)
            for a, score in measured
            if is_number(self.seen(a).get(key))
        ]
        if key[0] == SCORE:
            gaps = [score - look for look, score in pairs]
            return 1.0, sum(gaps) / len(gaps) if gaps else 0.0
        if len(pairs) < 2 or np.ptp([look for look, _ in pairs]) == 0:
            top = max((score for _, score in measured), default=1.0)
            return -abs(top), top
        looks, scores = np.array(pairs).T
        slope = min(0.0, float(np.polyfit(looks, scores, 1)[0]))
        return slope, float(scores.mean() - slope * looks.mean())


def sign(kind: str) -> int:
    """+1 where higher is better."""
    return -1 if kind == DIVERGENCE else 1


def correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation; None with fewer than two values on either side."""
    if len(pairs) < 2 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    looks, scores = np.array(pairs, dtype=np.float64).T
    return spearman(looks, scores)
