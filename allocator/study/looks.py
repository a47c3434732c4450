"""Cheap looks at allocations, and what they say about full scores.

A look is a low-fidelity evaluation: the divergence from full precision, or the score,
on few samples of the search set. A study keeps them; where it turns out that divergence
does not predict the score, scores of few samples take its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.finite import is_number
from allocator.core.told import RungReport
from allocator.study.bulk import all_stays
from allocator.study.per_sample import STRATA
from allocator.study.proposed import proposed_in
from allocator.study.worth import Pair, worth
from surrogate.importance import spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space
    from allocator.study.journal import Journal
    from allocator.study.proposed import Proposed

    Look = tuple[str, Allocation, tuple[str, int], float | None]

DIVERGENCE, SCORE = "divergence", "score"
# what is looked at, on how many samples, and how many candidates outlive it: on few
# samples the divergence tells more than the score, on many the score itself does
LADDER = ((DIVERGENCE, 32, 8), (DIVERGENCE, 128, 4), (SCORE, 256, 1))
# below it a cheap look does not predict the score well enough to choose by, and how
# sure that has to be (studies/statistics/looks.py has the trade-off)
LEAST_CORRELATION, SURE = 0.5, 0.85
# proposals measured before a correlation decides, and those of them that are controls
FEWEST, FEWEST_CONTROLS = 8, 3
# the confidence of intervals that are shown
SHOWN = 0.95
# a divergence of nothing, on a logarithmic scale
LEAST_DIVERGENCE = 1e-12


@dataclass
class Looks:
    """The looks taken so far.

    `ladder` are the rungs: what is looked at, on how many samples, and how many
    candidates outlive it. `looks` holds, by digest, an allocation and the value of each
    (kind, samples). `proposed` is what the looks are judged by, `total` the size of the
    search set, 0 where it is not known.
    """

    ladder: tuple[tuple[str, int, int], ...] = LADDER
    looks: dict[str, tuple[Allocation, dict[tuple[str, int], float]]] = field(
        default_factory=dict
    )
    proposed: Sequence[Proposed] = ()
    total: int = 0

    @staticmethod
    def recalled(
        looks: Iterable[Look], proposed: Sequence[Proposed] = (), total: int = 0
    ) -> Looks:
        """Looks that a study keeps."""
        found = Looks(proposed=proposed, total=total)
        found.recall(looks)
        return found

    @staticmethod
    def of_study(journal: Journal, space: Space) -> Looks:
        """Looks that a study keeps, with what they are judged by."""
        total = sum(journal.attribute(STRATA) or ())
        return Looks.recalled(journal.looks(space), proposed_in(journal, space), total)

    def recall(self, looks: Iterable[Look]) -> None:
        """Learn looks that a study keeps."""
        with all_stays():
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

    def rungs(self) -> tuple[tuple[str, int, int], ...]:
        """The ladder; of scores alone once the divergence turns out not to predict."""
        if self.trusts():
            return self.ladder
        return tuple((SCORE, size, outlive) for _, size, outlive in self.ladder)

    def trusts(self) -> bool:
        """Whether the divergence may predict the score, for all that is known.

        Until it is `SURE` that the correlation is below `LEAST_CORRELATION`.
        """
        return not self.surely_low(SURE)

    def surely_low(self, sure: float) -> bool:
        """Whether it is that sure that the divergence on the most samples says little.

        Never before there are proposals and controls enough.
        """
        done = [each for each in self.proposed if each.score is not None]
        if len(done) < FEWEST or sum(each.drawn for each in done) < FEWEST_CONTROLS:
            return False
        # one end of an interval is passed half as often as both
        ends = worth(self._pairs(DIVERGENCE, self._widest)).interval(2 * sure - 1)
        return ends is not None and ends[1] < LEAST_CORRELATION

    @property
    def _widest(self) -> int:
        """The most samples that divergence is looked at on."""
        sizes = [size for kind, size, _ in self.ladder if kind == DIVERGENCE]
        return max(sizes, default=0)

    def widest(self) -> RungReport:
        """Report of the divergence on the most samples."""
        return self.report(DIVERGENCE, self._widest)

    def reports(self) -> tuple[RungReport, ...]:
        """Reports of all rungs that looked at anything with a score beside."""
        keys = {(kind, size) for kind, size, _ in (*self.ladder, *self.rungs())}
        found = (self.report(kind, size) for kind, size in sorted(keys))
        return tuple(each for each in found if each.count)

    def report(self, kind: str, size: int) -> RungReport:
        """How well one rung's looks predicted scores on other samples."""
        return reported(kind, size, self._pairs(kind, size))

    def pairs(self, values: Callable[[Allocation], float | None]) -> list[Pair]:
        """What was proposed, with any value that is higher where a score should be."""
        return self._paired(values, 0)

    def _pairs(self, kind: str, size: int) -> list[Pair]:
        """What was proposed, with its look and its score on other samples."""

        def value(allocation: Allocation) -> float | None:
            look = self.seen(allocation).get((kind, size))
            return scaled(kind, look) if is_number(look) else None

        return self._paired(value, size)

    def _paired(
        self, values: Callable[[Allocation], float | None], size: int
    ) -> list[Pair]:
        valued = ((each, values(each.allocation)) for each in self.proposed)
        return [
            Pair(value, self._apart(each, size), each.place, each.drawn)
            for each, value in valued
            if value is not None
        ]

    def _apart(self, each: Proposed, size: int) -> float | None:
        """The score on the most samples, without the part that a look of `size` saw.

        Where the score of that part is not known it stays in.
        """
        seen = self.seen(each.allocation)
        scores = ((n, value) for (kind, n), value in seen.items() if kind == SCORE)
        many = {n: value for n, value in scores if is_number(value)}
        if each.score is not None and not self.total:
            return each.score
        if each.score is not None:
            many[self.total] = each.score
        whole = max(many, default=0)
        if whole <= size:
            return None
        if size not in many:
            return many[whole]
        return (whole * many[whole] - size * many[size]) / (whole - size)

    def estimates(
        self, measured: Sequence[tuple[Allocation, float]], least: int = 0
    ) -> tuple[tuple[Allocation, float], ...]:
        """Scores that the largest looks suggest, those on `least` samples or more.

        The mean over the kinds of looks, of each the one on the most samples: they err
        differently. What had a look that is no finite number is left out.
        """
        rungs = self.rungs()
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


def scaled(kind: str, look: float) -> float:
    """A look on a scale on which scores follow it evenly, higher is better."""
    if kind == SCORE:
        return look
    return -log(max(look, LEAST_DIVERGENCE))


def reported(
    kind: str, size: int, pairs: Sequence[Pair], predicted: str = "bank"
) -> RungReport:
    """What something cheap was worth; `predicted` are the weights that were scored."""
    found = worth(pairs)
    ends, about = found.interval(SHOWN), (found.count, found.spearman)
    return RungReport(kind, size, *about, ends, found.drawn, predicted)


def correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation; None with fewer than two values on either side."""
    if len(pairs) < 2 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    looks, scores = np.array(pairs, dtype=np.float64).T
    return spearman(looks, scores)
