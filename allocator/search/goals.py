"""What a search is for: a budget, the whole front, or a score to keep.

A goal says within which budget the next proposal is to be made, which of the measured
allocations are worth confirming, and which of those confirmed is recommended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from allocator.search.keep_score import KeepScore
from allocator.space.fronts import front, knee
from allocator.space.model import limit_of, pins_name, within, within_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from allocator.core.records import TrialRecord
    from allocator.core.study import StudySpec
    from allocator.search.measured import Measured
    from allocator.space.model import ModelSpace

    Floats = NDArray[np.float64]

FINALISTS = 5
# budgets of a front's sweep, evenly spaced in their logarithms
SWEEP = 8


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

    def would_choose(
        self, measured: Sequence[Measured], full: Measured, drawn: Floats
    ) -> set[int]:
        """Places of those that would be chosen by other means, for the intervals.

        Args:
            measured: all that took part, with each kind of weights.
            full: full precision.
            drawn: means over draws of the samples [draws, measured and then full].
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

    def would_choose(
        self, measured: Sequence[Measured], full: Measured, drawn: Floats
    ) -> set[int]:
        """The highest of those that fit."""
        del full
        places = enumerate(measured)
        fitting = [at for at, m in places if self.inside.fits(m.allocation)]
        return {fitting[at] for at in np.unique(drawn[:, fitting].argmax(axis=1))}


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

    def would_choose(
        self, measured: Sequence[Measured], full: Measured, drawn: Floats
    ) -> set[int]:
        """The knees."""
        del full
        sizes, found = [self.inside.bpw(m.allocation) for m in measured], set()
        for means in drawn[:, : len(measured)].tolist():
            points = list(zip(sizes, means, strict=True))
            kept = front(points)
            found.add(kept[knee([points[i] for i in kept])])
        return found

    def _members(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        allowed = [r for r in records if self.inside.fits(r.allocation)]
        kept = front([(record.bpw, record.score) for record in allowed])
        return [allowed[place] for place in kept]


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
