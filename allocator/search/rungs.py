"""Cheap looks before full measurements: few samples first, survivors see more.

Successive halving (Jamieson and Talwalkar, arXiv 1502.07943): all candidates are looked
at on few samples, the best of them on more, the best of those is measured in full. All
looks of a rung are on the same samples, so that they are paired. What is looked at is
the divergence from full precision; where that turns out not to predict the score, the
score of the few samples itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.study.looks import DIVERGENCE, LADDER, Looks
from evals.splits import spread_places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample
    from allocator.strategies._base import Candidate


def spread_out(samples: Sequence[Sample], count: int) -> Sequence[Sample]:
    """Evenly spaced samples: several tasks stand behind one another in a set."""
    if count >= len(samples):
        return samples
    return [samples[place] for place in spread_places(len(samples), count)]


class Rungs(Looks):
    """Takes looks, and says who outlives them.

    `fresh` are the looks taken since somebody emptied it.

    Args:
        look: takes one: an allocation, what is looked at, on how many samples.
        prefix: names what of an allocation decides how images are encoded: candidates
            of one name are looked at in a row.
        ladder: the rungs.
    """

    def __init__(
        self,
        look: Callable[[Allocation, str, int], float],
        prefix: Callable[[Allocation], str],
        ladder: tuple[tuple[str, int, int], ...] = LADDER,
    ) -> None:
        super().__init__(ladder)
        self.look = look
        self.prefix = prefix
        self.fresh: list[tuple[Allocation, tuple[str, int], float]] = []

    def value(self, allocation: Allocation, kind: str, size: int) -> float:
        """A look, taken if it was not."""
        if (kind, size) not in self.seen(allocation):
            value = self.look(allocation, kind, size)
            self.learn(allocation, (kind, size), value)
            self.fresh.append((allocation, (kind, size), value))
        return self.seen(allocation)[kind, size]

    def look_at(self, allocation: Allocation) -> None:
        """Take the looks of all rungs that look at the divergence."""
        for kind, size, _ in self.ladder:
            if kind == DIVERGENCE:
                self.value(allocation, kind, size)

    def survivor(
        self,
        candidates: Sequence[Candidate],
        measured: Sequence[tuple[Allocation, float]],
    ) -> Candidate:
        """The candidate that outlives all rungs."""
        rungs = self.rungs(measured)
        left = list(candidates)
        for at, (kind, size, outlive) in enumerate(rungs):
            # what got further before does not compete with the luck of few samples
            later = {(kind, size) for kind, size, _ in rungs[at + 1 :]}
            ahead = [c for c in left if later & self.seen(c.allocation).keys()]
            behind = [c for c in left if c not in ahead]
            for each in sorted(behind, key=lambda c: self.prefix(c.allocation)):
                self.value(each.allocation, kind, size)
            suggests = self._suggests(rungs[: at + 1], measured)
            values = {
                c.allocation.digest: suggests(self.seen(c.allocation)) for c in behind
            }
            # of equals, the one that the strategy or the rung before put first
            behind.sort(key=lambda c: -values[c.allocation.digest])
            left = ahead + behind[:outlive]
        return left[0]
