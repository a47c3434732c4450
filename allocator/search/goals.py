"""What a search is for: a budget, the whole front, or a score to keep.

A goal says within which budget the next proposal is to be made, which of the measured
allocations are worth confirming, and which of those confirmed is recommended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from allocator.core.errors import NotReachedError
from allocator.core.study import CONFIDENCE
from allocator.space.fronts import front, knee
from allocator.space.model import limit_of, pins_name, within, within_name
from evals.interval import surplus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from allocator.core.records import TrialRecord
    from allocator.core.study import StudySpec
    from allocator.search.measured import Measured
    from allocator.space.model import ModelSpace

FINALISTS = 5
# budgets of a front's sweep, evenly spaced in their logarithms
SWEEP = 8
# proposals that may miss a score within a budget before a wider one is tried
MISSES = 3
# margins on the search set, in what the evaluation set will ask for: what a search for
# a score aims at, and what its finalists have
AIMS = (2.0, 1.0)
LEVELS = (0.5, 1.0, 1.5, 2.0, 3.0)
# ratio of two sizes that are no longer told apart
CLOSE = 1.004


class Goal(Protocol):
    """What a search is for; `name` tells its proposals from those of other goals."""

    @property
    def kind(self) -> str:
        """Its kind: budget, front, min-score."""

    @property
    def name(self) -> str:
        """Its name in the study."""

    def space(
        self, records: Sequence[TrialRecord], spent: Collection[float] = ()
    ) -> ModelSpace | None:
        """Where the next proposal is to be made; None where nothing is left to do.

        `spent` are limits, in bits per weight, within which nothing new is left.
        """

    def best(self, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """The best so far, on the search set."""

    def finalists(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """At most five allocations to measure on the evaluation set."""

    def choose(self, measured: Sequence[Measured], full: Measured) -> Measured:
        """The recommended one of those measured on the evaluation set.

        Raises:
            NotReachedError: none does what was asked.
        """


@dataclass(frozen=True)
class WithinBudget:
    """The best score within one budget."""

    inside: ModelSpace
    kind: str = "budget"

    @property
    def name(self) -> str:
        """Equal budgets with equal pins have equal names."""
        return within_name(self.inside)

    def space(
        self, records: Sequence[TrialRecord], spent: Collection[float] = ()
    ) -> ModelSpace | None:
        """The budget's."""
        del records
        return None if limit_of(self.inside) in spent else self.inside

    def best(self, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """The highest score that fits, the smaller one of equals."""
        return next(iter(self.finalists(records)), None)

    def finalists(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The highest scores that fit."""
        fitting = [r for r in records if self.inside.fits(r.allocation)]
        return sorted(fitting, key=lambda r: (-r.score, r.bpw))[:FINALISTS]

    def choose(self, measured: Sequence[Measured], full: Measured) -> Measured:
        """The highest score that fits, the smaller one of equals."""
        del full
        fitting = [m for m in measured if self.inside.fits(m.allocation)]
        return max(fitting, key=lambda m: (m.mean, -self.inside.bpw(m.allocation)))


@dataclass(frozen=True)
class WholeFront:
    """The best score at every size; its knee is recommended."""

    inside: ModelSpace
    kind: str = "front"

    @property
    def name(self) -> str:
        """One front for each scope, under the same pins."""
        return f"front/{self.inside.budget.scope}{pins_name(self.inside)}"

    @cached_property
    def spaces(self) -> tuple[ModelSpace, ...]:
        """Budgets between the smallest allocation and the widest uniform one."""
        least = self.inside.bpw(self.inside.smallest)
        most = self.inside.bpw(self.inside.uniform[-1])
        ratio = most / least
        if ratio <= 1:
            # all of one size: nothing to sweep but the methods
            return (self.inside,)
        # the smallest itself leaves nothing to decide
        steps = [(at + 0.5) / SWEEP for at in range(SWEEP)]
        return tuple(within(self.inside, least * ratio**step) for step in steps)

    def space(
        self, records: Sequence[TrialRecord], spent: Collection[float] = ()
    ) -> ModelSpace | None:
        """Each budget of the sweep in turn."""
        made = Counter(r.limit for r in records if r.budget == self.name)
        left = [space for space in self.spaces if limit_of(space) not in spent]
        return min(left, key=lambda space: made[limit_of(space)], default=None)

    def best(self, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """The knee of the front so far."""
        members = self._members(records)
        return members[knee([(r.bpw, r.score) for r in members])] if members else None

    def finalists(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The knee, and members evenly spaced along the front."""
        members = self._members(records)
        if len(members) <= FINALISTS:
            return members
        middle = knee([(r.bpw, r.score) for r in members])
        last, parts = len(members) - 1, FINALISTS - 2
        places = {middle, *(round(at * last / parts) for at in range(parts + 1))}
        return [members[place] for place in sorted(places)]

    def choose(self, measured: Sequence[Measured], full: Measured) -> Measured:
        """The knee of what was measured on the evaluation set."""
        del full
        points = [(self.inside.bpw(m.allocation), m.mean) for m in measured]
        kept = front(points)
        return measured[kept[knee([points[i] for i in kept])]]

    def _members(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        allowed = [r for r in records if self.inside.fits(r.allocation)]
        kept = front([(record.bpw, record.score) for record in allowed])
        return [allowed[place] for place in kept]


@dataclass(frozen=True)
class KeepScore:
    """The smallest allocation that surely keeps a share of the full-precision score.

    Surely: the share is below what is kept with probability `confidence`. The size is
    bisected: a budget within which some proposals miss the score makes room for a wider
    one, a smaller size that keeps it for a narrower one.

    `strata` are the numbers of evaluation samples of each task, `values` gives what is
    known of the search set sample by sample, by digest.
    """

    inside: ModelSpace
    share: float
    confidence: float = CONFIDENCE
    strata: tuple[int, ...] = ()
    values: Callable[[], Mapping[str, Sequence[float]]] = dict
    kind: str = "min-score"

    @property
    def name(self) -> str:
        """One for each share, confidence and scope, under the same pins."""
        asked = f"{self.share:g} at {self.confidence!r}"
        return f"min-score {asked}/{self.inside.budget.scope}{pins_name(self.inside)}"

    def space(
        self, records: Sequence[TrialRecord], spent: Collection[float] = ()
    ) -> ModelSpace | None:
        """Between the widest budget that missed and the smallest size that kept it.

        Where nothing is left between them, the same by the next margin.
        """
        tried: dict[float, int] = {}
        for record in records:
            if record.budget == self.name and record.limit is not None:
                tried[record.limit] = tried.get(record.limit, 0) + 1
        for level in AIMS:
            found = self._between(self._reached(records, level), tried, spent)
            if found is not None:
                return within(self.inside, found)
        return None

    def _between(
        self,
        reached: Sequence[TrialRecord],
        tried: Mapping[float, int],
        spent: Collection[float],
    ) -> float | None:
        """The next budget of a bisection, in bits per weight; None where it ended."""
        low = self.inside.bpw(self.inside.smallest)
        high = self.inside.bpw(self.inside.widest)
        if reached:
            high = min(high, reached[0].bpw)
        # a budget at or above what kept the score has not missed it
        over = [*spent, *(at for at, n in tried.items() if n >= MISSES)]
        low = max([low, *(at for at in over if at < high)])
        if high / low < CLOSE:
            return None
        # where a budget is under way it is gone on with, so that restarts agree
        begun = [at for at, n in tried.items() if n < MISSES and low < at < high]
        return max(begun) if begun else (low * high) ** 0.5

    def best(self, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """The smallest that seems to keep it; until there is one, the highest score."""
        reached = self._reached(records, AIMS[0]) or self.finalists(records)
        return next(iter(reached), None)

    def finalists(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The smallest by ever safer margins; where none keeps it, the highest scores.

        On the evaluation set some fall short of what they had on the search set: the
        smallest that may do comes with larger ones that surely will.
        """
        steps = [self._reached(records, level)[:1] for level in LEVELS]
        reached = {r.allocation.digest: r for step in steps for r in step}
        if reached:
            return list(reached.values())
        allowed = [r for r in records if self.inside.fits(r.allocation)]
        return sorted(allowed, key=lambda r: (-r.score, r.bpw))[:FINALISTS]

    def choose(self, measured: Sequence[Measured], full: Measured) -> Measured:
        """The smallest that surely keeps the score on the evaluation set.

        They are tested in the order given, from that of which most is expected, until
        one fails: so no more than 1 - `confidence` of all choices are wrong, however
        many are tested (fixed sequence testing: Angelopoulos et al., "Learn then Test",
        arXiv 2110.01052). What is larger than one that passed need not be tested.
        """
        kept: Measured | None = None
        for each in measured:
            if kept is not None and self._rank(each) >= self._rank(kept):
                continue
            if self.surplus(each, full) < 0:
                break
            kept = each
        if kept is None:
            raise NotReachedError(self._missed(measured, full))
        return kept

    def surplus(self, measured: Measured, full: Measured) -> float:
        """What is surely left on the evaluation set beyond the share asked for."""
        known = measured.values, full.values, self.share, self.confidence
        return surplus(*known, strata=self.strata)

    def _rank(self, measured: Measured) -> tuple[float, float]:
        """The smallest first, the best of equals."""
        return self.inside.bpw(measured.allocation), -measured.mean

    def _missed(self, measured: Sequence[Measured], full: Measured) -> str:
        """Why nothing is chosen."""
        best = max(measured, key=lambda m: m.mean)
        bound = self.share + self.surplus(best, full) / full.mean
        size = self.inside.bpw(best.allocation)
        return (
            f"nothing kept {100 * self.share:g} % of full precision's {full.mean:.2f} "
            f"with probability {100 * self.confidence:g} %: the best found scores "
            f"{best.mean:.2f} ({100 * best.mean / full.mean:.1f} %, surely "
            f"{100 * bound:.1f} %) at {size:.3f} bpw; allow more widths, more "
            f"--trials, {'other pins, ' if self.inside.pinned else ''}or ask for less "
            "or with less --confidence"
        )

    def _reached(
        self, records: Sequence[TrialRecord], level: float
    ) -> list[TrialRecord]:
        """What keeps the score on the search set by a margin, the smallest first.

        The margin is a multiple of what the evaluation set will ask for.
        """
        full = [r for r in records if r.kind == "full"]
        if not full:
            return []
        values = self.values()
        whole = values.get(full[0].allocation.digest, ())
        fitting = [r for r in records if self.inside.fits(r.allocation)]
        kept = []
        for record in fitting:
            beyond, margin = record.score - self.share * full[0].score, 0.0
            own = values.get(record.allocation.digest, ())
            if len(own) and len(whole) and self.strata:
                known = own, whole, self.share, self.confidence
                sure = surplus(*known, size=sum(self.strata))
                margin = level * (beyond - sure)
            if beyond >= margin:
                kept.append(record)
        return sorted(kept, key=lambda r: (r.bpw, -r.score))


def goal_of(
    asked: StudySpec,
    space: ModelSpace,
    strata: Sequence[int] = (),
    values: Callable[[], Mapping[str, Sequence[float]]] = dict,
) -> Goal:
    """What a request is for; `strata` and `values` are as in `KeepScore`."""
    if asked.front:
        return WholeFront(space)
    if asked.min_score is not None:
        share, confidence = float(asked.min_score), float(asked.confidence)
        return KeepScore(space, share, confidence, tuple(strata), values)
    return WithinBudget(space)
