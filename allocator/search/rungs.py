"""Cheap looks before full measurements: few samples first, survivors see more.

Successive halving (Jamieson and Talwalkar, arXiv 1502.07943): all candidates are looked
at on few samples, the best of them on more, the best of those is measured in full. All
looks of a rung are on the same samples, so that they are paired. What is looked at is
the divergence from full precision; where that turns out not to predict the score, the
score of the few samples itself. A few proposals are controls, which no look chose: what
looks are worth shows in them.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from allocator.study.looks import DIVERGENCE, LADDER, SCORE, Looks
from evals.splits import spread_places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from allocator.core.allocation import Allocation
    from allocator.strategies._base import Candidate

Each = TypeVar("Each")

# proposals of a goal before each control; where no rung takes scores, a control is one
# allocation in place of a few, and it takes more of them (studies/statistics/looks.py)
CONTROLS, SINGLE_CONTROLS = (3, 5, 7, 9), (2, 4, 6, 8, 10)
# candidates drawn for a control: as many as otherwise get to the score of many samples
DRAWN = LADDER[-2][2]


def spread_out(samples: Sequence[Each], count: int) -> Sequence[Each]:
    """Evenly spaced samples: several tasks stand behind one another in a set."""
    if count >= len(samples):
        return samples
    return [samples[place] for place in spread_places(len(samples), count)]


class Rungs(Looks):
    """Takes looks, and says who outlives them.

    `fresh` are the looks taken since somebody emptied it.

    Args:
        look: takes one: an allocation, what is looked at, on how many samples, and what
            will be looked at next, if that is known.
        order: of allocations to be looked at in a row: neighbours share what a model
            executes first.
        ladder: the rungs.
        before: is told what is about to be looked at, in order.
    """

    def __init__(
        self,
        look: Callable[[Allocation, str, int, Allocation | None], float],
        order: Callable[[Allocation], Any],
        ladder: tuple[tuple[str, int, int], ...] = LADDER,
        before: Callable[[Sequence[Allocation], str, int], object] = lambda *_: None,
    ) -> None:
        super().__init__(ladder)
        self.before = before
        self.look = look
        self.order = order
        self.fresh: list[tuple[Allocation, tuple[str, int], float]] = []

    def value(self, allocation: Allocation, kind: str, size: int) -> float:
        """A look, taken if it was not."""
        return self.values([allocation], kind, size)[0]

    def values(
        self, allocations: Sequence[Allocation], kind: str, size: int
    ) -> list[float]:
        """Looks at some allocations, those that were not taken among them.

        They are taken by the order of execution, and known in the order given: what is
        learned from them does not depend on how they were taken.
        """
        key = kind, size
        new = self._new(allocations, key)
        taken: dict[str, float] = {}
        in_order = self.begin(allocations, kind, size)
        try:
            for each, ahead in zip_longest(in_order, in_order[1:]):
                taken[each.digest] = self.look(each, kind, size, ahead)
        finally:
            for name, each in new.items():
                if name in taken:
                    self.learn(each, key, taken[name])
                    self.fresh.append((each, key, taken[name]))
        return [self.seen(each)[key] for each in allocations]

    def begin(
        self, allocations: Sequence[Allocation], kind: str, size: int
    ) -> list[Allocation]:
        """Tell which of some allocations are about to be looked at, in order; these."""
        new = self._new(allocations, (kind, size))
        in_order = sorted(new.values(), key=self.order)
        self.before(in_order, kind, size)
        return in_order

    def _new(
        self, allocations: Sequence[Allocation], key: tuple[str, int]
    ) -> dict[str, Allocation]:
        """Those that were not looked at so yet, by digest."""
        return {a.digest: a for a in allocations if key not in self.seen(a)}

    def learn_parts(
        self, allocation: Allocation, size: int, values: Sequence[float]
    ) -> None:
        """Scores of a rung's few samples, which are among the `size` of `values`.

        They cost nothing, and tell how far the many only repeat what the few said.
        """
        for _, few, _ in self.ladder:
            key = SCORE, few
            if few < size == len(values) and key not in self.seen(allocation):
                part = spread_out(values, few)
                self.learn(allocation, key, sum(part) / few)
                self.fresh.append((allocation, key, self.seen(allocation)[key]))

    def look_at(self, allocation: Allocation) -> None:
        """Take the looks of all rungs that look at the divergence."""
        for kind, size, _ in self.ladder:
            if kind == DIVERGENCE:
                self.value(allocation, kind, size)

    def survivor(
        self,
        candidates: Sequence[Candidate],
        measured: Sequence[tuple[Allocation, float]],
        between: Callable[[], object] = lambda: None,
    ) -> Candidate:
        """The candidate that outlives all rungs; looks may be kept `between` two."""
        rungs = self.rungs()
        left = list(candidates)
        for at, (kind, size, outlive) in enumerate(rungs):
            # what got further before does not compete with the luck of few samples
            later = {(kind, size) for kind, size, _ in rungs[at + 1 :]}
            ahead = [c for c in left if later & self.seen(c.allocation).keys()]
            behind = [c for c in left if c not in ahead]
            self.values([c.allocation for c in behind], kind, size)
            if later:
                between()
            suggests = self._suggests(rungs[: at + 1], measured)
            values = {
                c.allocation.digest: suggests(self.seen(c.allocation)) for c in behind
            }
            # of equals, the one that the strategy or the rung before put first
            behind.sort(key=lambda c: -values[c.allocation.digest])
            left = ahead + behind[:outlive]
        return left[0]

    def controls_due(self, made: int) -> int:
        """Controls that a goal should have after so many proposals."""
        if not self.ladder or not self.trusts():
            return 0
        scores = self.ladder[-1][0] == SCORE
        return sum(at <= made for at in (CONTROLS if scores else SINGLE_CONTROLS))

    def drawn(
        self, candidates: Sequence[Candidate], rng: np.random.Generator
    ) -> list[Candidate]:
        """A few that were not looked at yet, by chance alone."""
        new = [c for c in candidates if not self.seen(c.allocation)]
        places = rng.permutation(len(new))[:DRAWN]
        return [new[place] for place in places]

    def control(self, drawn: Sequence[Candidate]) -> Candidate:
        """One of those drawn, whatever their divergence.

        The best score where the last rung takes scores, as among those that outlived
        the others: it is the divergence alone that no choice is made by.
        """
        for kind, size, _ in self.ladder:
            if kind == DIVERGENCE:
                self.values([c.allocation for c in drawn], kind, size)
        kind, size, _ = self.ladder[-1]
        if kind != SCORE:
            return drawn[0]
        values = self.values([c.allocation for c in drawn], kind, size)
        return drawn[values.index(max(values))]
