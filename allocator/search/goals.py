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
from allocator.space.fronts import front, knee
from allocator.space.model import limit_of, pins_name, within, within_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from allocator.core.records import TrialRecord
    from allocator.core.study import StudySpec
    from allocator.search.measured import Measured
    from allocator.space.model import ModelSpace

FINALISTS = 5
# budgets of a front's sweep, evenly spaced in their logarithms
SWEEP = 8
# proposals that may miss a score within a budget before a wider one is tried
MISSES = 3
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
    """The smallest allocation that keeps a share of the full-precision score.

    The size is bisected: a budget within which some proposals miss the score makes room
    for a wider one, a smaller size that keeps it for a narrower one.
    """

    inside: ModelSpace
    share: float
    kind: str = "min-score"

    @property
    def name(self) -> str:
        """One for each share and scope, under the same pins."""
        scope = self.inside.budget.scope
        return f"min-score {self.share:g}/{scope}{pins_name(self.inside)}"

    def space(
        self, records: Sequence[TrialRecord], spent: Collection[float] = ()
    ) -> ModelSpace | None:
        """Between the widest budget that missed and the smallest size that kept it."""
        reached = self._reached(records)
        low = self.inside.bpw(self.inside.smallest)
        high = self.inside.bpw(self.inside.widest)
        if reached:
            high = min(high, reached[0].bpw)
        tried: dict[float, int] = {}
        for record in records:
            # what no look chose says nothing against a budget
            if record.budget != self.name or record.control:
                continue
            if record.limit is not None:
                tried[record.limit] = tried.get(record.limit, 0) + 1
        # a budget at or above what kept the score has not missed it
        over = [*spent, *(at for at, n in tried.items() if n >= MISSES)]
        low = max([low, *(at for at in over if at < high)])
        if high / low < CLOSE:
            return None
        # where a budget is under way it is gone on with, so that restarts agree
        begun = [at for at, n in tried.items() if n < MISSES and low < at < high]
        return within(self.inside, max(begun) if begun else (low * high) ** 0.5)

    def best(self, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """The smallest that keeps the score; until there is one, the highest score."""
        return next(iter(self.finalists(records)), None)

    def finalists(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The smallest that keep the score; where none does, the highest scores."""
        reached = self._reached(records)
        if reached:
            return reached[:FINALISTS]
        allowed = [r for r in records if self.inside.fits(r.allocation)]
        return sorted(allowed, key=lambda r: (-r.score, r.bpw))[:FINALISTS]

    def choose(self, measured: Sequence[Measured], full: Measured) -> Measured:
        """The smallest that keeps the score on the evaluation set."""
        target = self.share * full.mean
        kept = [m for m in measured if m.mean >= target]
        if not kept:
            best = max(measured, key=lambda m: m.mean)
            raise NotReachedError(
                f"nothing kept {100 * self.share:g} % of full precision's "
                f"{full.mean:.2f}: the best found scores {best.mean:.2f} "
                f"({100 * best.mean / full.mean:.1f} %) at "
                f"{self.inside.bpw(best.allocation):.3f} bpw; allow more widths, more "
                f"--trials, {'other pins, ' if self.inside.pinned else ''}or ask for "
                "less"
            )
        return min(kept, key=lambda m: (self.inside.bpw(m.allocation), -m.mean))

    def _reached(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """What keeps the score on the search set, the smallest first."""
        full = [r.score for r in records if r.kind == "full"]
        if not full:
            return []
        target = self.share * full[0]
        fitting = [r for r in records if self.inside.fits(r.allocation)]
        kept = [r for r in fitting if r.score >= target]
        return sorted(kept, key=lambda r: (r.bpw, -r.score))


def goal_of(asked: StudySpec, space: ModelSpace) -> Goal:
    """What a request is for."""
    if asked.front:
        return WholeFront(space)
    if asked.min_score is not None:
        return KeepScore(space, asked.min_score)
    return WithinBudget(space)
