"""A search that stops varying groups which hardly matter, with the reason.

Every few proposals the consensus importance is taken of what is known near the budget.
Groups that it calls minor, and that have the fewest bits there are in the best one so
far, stay as they are: nothing can be taken from them, and nothing would be gained by
giving. All strategies then propose for the others alone; as with Optuna's
`PartialFixedSampler`, they never know.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.allocation import Allocation
from allocator.explain.evidence import Evidence
from allocator.explain.importance import analysis_of
from allocator.space.base import Space
from allocator.strategies._base import Known
from allocator.study.frozen import FrozenGroup
from allocator.study.proposed import NEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from allocator.core.allocation import Choice
    from allocator.strategies._base import Candidate, Strategy

# measurements before the first decision, and between one and the next: of fewer,
# importance says too little (studies/search)
FIRST, EVERY = 16, 8
# rows that a decision is made from, the best ones
MOST_ROWS = 150
DRAWS = 20


class NarrowedSpace(Space):
    """The groups of a space that are still decided; the others stay as they are.

    Args:
        inner: the whole space.
        frozen: choices of the groups that stay.
    """

    def __init__(self, inner: Space, frozen: Mapping[str, Choice]) -> None:
        self.inner = inner
        self.frozen = dict(frozen)
        self.choices = inner.choices
        self._keys = tuple(key for key in inner.keys if key not in self.frozen)

    @property
    def keys(self) -> tuple[str, ...]:
        """Groups that are decided."""
        return self._keys

    @cached_property
    def allowed(self) -> dict[str, tuple[Choice, ...]]:
        """What each group may get, narrow to wide."""
        return {key: self.inner.allowed[key] for key in self._keys}

    @cached_property
    def group_bytes(self) -> Mapping[str, Mapping[int, float]]:
        """Stored bytes of each group at each width."""
        return {key: self.inner.group_bytes[key] for key in self._keys}

    @cached_property
    def room(self) -> float:
        """Bytes that are left for the groups that are decided."""
        sizes = self.inner.group_bytes
        taken = sum(sizes[key][choice.bits] for key, choice in self.frozen.items())
        return self.inner.room - taken

    def bpw(self, allocation: Allocation) -> float:
        """Bits per weight of the whole."""
        return self.inner.bpw(self.whole(allocation))

    def fits(self, allocation: Allocation) -> bool:
        """Whether the whole keeps the budget."""
        return self.inner.fits(self.whole(allocation))

    @cached_property
    def rows(self) -> Sequence[Allocation] | None:
        """Of the rows that can be measured, those with the frozen choices."""
        rows = self.inner.rows
        if rows is None:
            return None
        return [self.part(row) for row in rows if self.agrees(row)]

    def nearest(
        self, allocation: Allocation, taken: Collection[str] = ()
    ) -> Allocation | None:
        """The nearest allocation that can be measured, fits and is not in `taken`."""
        if self.rows is None:
            return super().nearest(allocation, taken)
        free = [row for row in self.rows if row.digest not in taken]
        if not free:
            return None
        wanted = np.log2([choice.bits for _, choice in allocation])
        bits = np.log2([[choice.bits for _, choice in row] for row in free])
        return free[int(((bits - wanted) ** 2).sum(axis=1).argmin())]

    def whole(self, allocation: Allocation) -> Allocation:
        """The decided groups with the frozen ones."""
        chosen = {**self.frozen, **dict(allocation.choices)}
        return Allocation.of(self.inner.keys, chosen)

    def part(self, allocation: Allocation) -> Allocation:
        """The decided groups alone."""
        chosen = dict(allocation.choices)
        return Allocation(tuple((key, chosen[key]) for key in self._keys))

    def agrees(self, allocation: Allocation) -> bool:
        """Whether an allocation has the frozen choices."""
        return all(self.frozen.get(key, own) == own for key, own in allocation)

    def known(self, known: Known, taken: Sequence[Allocation]) -> Known:
        """What is known, of the decided groups alone.

        Scores of allocations that differ in frozen groups count too: those hardly
        matter. What agrees with them comes last, so that it stands where both exist.
        """

        def parts(
            scored: Sequence[tuple[Allocation, float]],
        ) -> tuple[tuple[Allocation, float], ...]:
            order = sorted(scored, key=lambda pair: self.agrees(pair[0]))
            own = ((self.part(allocation), score) for allocation, score in order)
            return tuple({part.digest: (part, score) for part, score in own}.values())

        gone = frozenset(self.part(a).digest for a in taken if self.agrees(a))
        pending = tuple(self.part(a) for a in known.pending if self.agrees(a))
        return Known(parts(known.measured), parts(known.estimated), gone, pending)


class Narrowing:
    """A strategy that is asked about fewer groups as more becomes known.

    Args:
        strategy: what proposes for the whole space.
        recalled: decisions that were made before, by the number of measurements.
        keep: is told each decision, with the number of measurements it was made after.
    """

    def __init__(
        self,
        strategy: Strategy,
        recalled: Mapping[int, Sequence[FrozenGroup]] | None = None,
        keep: Callable[[int, Sequence[FrozenGroup]], object] | None = None,
    ) -> None:
        self.strategy = strategy
        self.decided = dict(recalled or {})
        self.keep = keep
        self._narrowed: tuple[int, NarrowedSpace, Strategy] | None = None

    def ask(self, known: Known, count: int = 1) -> list[Candidate]:
        """Candidates for the next trial, best first."""
        stage = EVERY * (len(known.measured) // EVERY)
        if stage < FIRST:
            return self.strategy.ask(known, count)
        if stage not in self.decided:
            self.decided[stage] = decide(self.strategy.space, known, self.strategy.seed)
            if self.keep:
                self.keep(stage, self.decided[stage])
        if not self.decided[stage]:
            return self.strategy.ask(known, count)
        space, strategy = self._at(stage)
        taken = [a for a in self._seen(known) if a.digest in known.taken]
        found = [
            replace(each, allocation=space.whole(each.allocation))
            for each in strategy.ask(space.known(known, taken), count)
        ]
        # another process may be measuring one: of that, nothing but the digest is known
        gone = known.barring.taken
        free = [each for each in found if each.allocation.digest not in gone]
        return free or self.strategy.ask(known, count)

    @property
    def offspring(self) -> int:
        """Candidates that cheap looks should see for each that is measured."""
        return self.strategy.offspring

    def _seen(self, known: Known) -> list[Allocation]:
        rows = self.strategy.space.rows
        return [a for a, _ in known.measured] if rows is None else list(rows)

    def _at(self, stage: int) -> tuple[NarrowedSpace, Strategy]:
        """The narrowed space of a stage, and the strategy within it."""
        if self._narrowed is None or self._narrowed[0] != stage:
            whole = self.strategy.space
            frozen = {
                each.group: whole.by_label[each.choice] for each in self.decided[stage]
            }
            space, damage = NarrowedSpace(whole, frozen), self.strategy.damage
            if damage is not None:
                damage = {at: v for at, v in damage.items() if at[0] not in frozen}
            inside = type(self.strategy)(space, self.strategy.seed, damage)
            self._narrowed = stage, space, inside
        return self._narrowed[1:]


def decide(space: Space, known: Known, seed: int) -> tuple[FrozenGroup, ...]:
    """Groups that hardly matter near the budget and have the fewest bits there are."""
    from surrogate.measures import Effort
    from surrogate.narrowing import LEAST_LEFT, minor

    fitting = [pair for pair in known.measured if space.fits(pair[0])]
    if not fitting:
        return ()
    done = {allocation.digest for allocation, _ in known.measured}
    looked = [pair for pair in known.estimated if pair[0].digest not in done]
    near = [
        pair
        for pair in [*known.measured, *looked]
        if NEAR <= space.bytes(pair[0]) / space.room <= 1 / NEAR
    ]
    near = sorted(near, key=lambda pair: -pair[1])[:MOST_ROWS]
    if len(near) < len(space.keys):
        return ()
    effort = Effort(DRAWS, beside=False)
    found = analysis_of(Evidence.of(space.keys, near, seed=seed), effort)
    best = dict(max(fitting, key=lambda pair: pair[1])[0].choices)
    # a pinned group is no discovery
    free = {k: own[0].bits for k, own in space.allowed.items() if len(own) > 1}
    frozen = [
        FrozenGroup(each.name, str(best[each.name]), each.share, each.reason)
        for each in minor(found)
        if best[each.name].bits == free.get(each.name)
    ]
    return tuple(frozen[: max(0, len(free) - LEAST_LEFT)])
