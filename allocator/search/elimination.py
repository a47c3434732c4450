"""Elimination: what is compared on the evaluation set sees ever more of it, or stops.

Contenders are scored on growing parts of the evaluation set, the same for all. At each
look those stop that cannot win any more: that surely score no more than the best so far
on the whole set, but for a TIE. Paired one-sided tests share an error of ERROR, the
looks in equal parts (alpha spending: Lan and DeMets, Biometrika 70, 1983) and the
contenders in a look (Bonferroni, as in Maron and Moore, "Hoeffding Races", 1994). From
SURE samples on half as many may go on as at the look before, two in the end: the winner
and one rival see everything (sequential halving: Karnin, Koren and Somekh, ICML 2013).

Of what saw everything the best is chosen; what lies less than TIE behind it and is
smaller is as good and takes its place. Nothing that stopped, no uniform allocation and
no rival may lie above what is chosen, on the samples that both were scored on: a tie is
not decided against one, and what lies above the best goes on after all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.search.deadline import LAST
from evals.racing import completed, is_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation
    from allocator.search.measured import Measured
    from evals.subsets import Subsets

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

# probability that tests stop what is better by a tie on the whole set
ERROR = 0.02
# points (a metric in percent), or percent of full precision's score
TIE = 0.2
# samples by which more than tests may stop a contender
SURE = 1_000
# sizes are no different within this ratio
ALIKE = 1.004


@dataclass(eq=False)
class Racer:
    """One that races.

    `measure` scores it on the first samples of the order, `known` tells on how many it
    was scored before; what is `given` was not found by the search: a uniform
    allocation, a rival. `found` is its last score.
    """

    allocation: Allocation
    bpw: float
    measure: Callable[[int], Measured]
    known: Callable[[], int] = lambda: 0
    given: bool = False
    found: Measured | None = None

    @property
    def scored(self) -> Measured:
        """Its last score.

        Raises:
            ValueError: it has none yet.
        """
        if self.found is None:
            raise ValueError(f"{self.allocation.digest} was not scored")
        return self.found

    @property
    def failed(self) -> bool:
        """Whether something of it was no finite number."""
        return self.found is not None and self.found.failed is not None


@dataclass
class Race:
    """A race over the parts of an evaluation set.

    `pictures` [samples] has a number for each, `strata` are sizes of the tasks' parts;
    `tie` is what counts as no difference. `hurries` says that time is short, so that no
    more than LAST go on; `progress` is told looks done and to do, `ahead` who is about
    to be scored, on how many samples.
    """

    racers: Sequence[Racer]
    looks: Subsets
    pictures: Ints
    strata: Sequence[int]
    tie: float
    hurries: Callable[[], bool] = lambda: False
    progress: Callable[[int, int], object] = lambda *_: None
    ahead: Callable[[Sequence[Racer], int], object] = lambda *_: None

    def run(self) -> None:
        """Score all on the first part, what goes on on the next, and so on."""
        left, sizes = list(self.racers), self.looks.sizes
        done, count = 0, len(sizes) * len(left)
        for at, size in enumerate(sizes):
            if at and len(left) <= LAST and size < self.looks.total:
                continue
            self.ahead(left, size)
            for each in left:
                self.progress(done, count)
                each.found = each.measure(size)
                done += 1
            left = [each for each in left if not each.failed]
            if size < self.looks.total:
                left = self._going_on(left, at)
        self.progress(count, count)

    def choose(self) -> Racer:
        """The winner, which has seen everything, as what it is compared with allows.

        Raises:
            ValueError: nothing has a score.
        """
        while True:
            last, stopped = self._divided()
            if not last:
                # what was to see everything overflowed there
                first = max(stopped, key=lambda each: (self.mean(each), -each.bpw))
                first.found = first.measure(self.looks.total)
                continue
            best = max(last, key=lambda each: (self.mean(each), -each.bpw))
            least = self.mean(best) - self.tie
            bar = max((self.mean(e) for e in last if e.given), default=least)
            alike = [
                each
                for each in last
                if self.mean(each) >= max(least, bar) and each.bpw * ALIKE < best.bpw
            ]
            for each in sorted(alike, key=lambda e: (e.bpw, -self.mean(e))):
                if not self._above(each, stopped):
                    return each
            called = self._above(best, stopped)
            if not called:
                return best
            for each in called:
                each.found = each.measure(self.looks.total)

    def mean(self, racer: Racer, size: int | None = None) -> float:
        """Mean score on the first samples; by default on all it was scored on."""
        if size is None:
            return racer.scored.mean
        return float(self._values(racer, self.looks.places(size)).mean())

    def held_against(self, racer: Racer, winner: Racer) -> Measured:
        """A score as one of the whole set, by what the winner has more or less."""
        own = racer.scored
        if own.is_whole or own.failed:
            return own
        row, places = np.array(own.values), np.array(own.seen)
        values = completed(row, places, np.array(winner.scored.values), self.strata)
        return own.with_values(values.tolist())

    def _divided(self) -> tuple[list[Racer], list[Racer]]:
        """Those that saw everything, and those that stopped."""
        scored = [each for each in self.racers if each.found and not each.failed]
        last = [each for each in scored if each.scored.is_whole]
        return last, [each for each in scored if not each.scored.is_whole]

    def _above(self, racer: Racer, stopped: Sequence[Racer]) -> list[Racer]:
        """Those that lie above one on the samples that both were scored on."""
        return [
            each
            for each in stopped
            if self.mean(each) > self.mean(racer, len(each.scored.values))
        ]

    def _going_on(self, left: Sequence[Racer], at: int) -> list[Racer]:
        """Those that see the next part: the best, and what scored there already."""
        size, after = self.looks.sizes[at : at + 2]
        ranked = sorted(left, key=lambda e: (-self.mean(e, size), e.bpw))
        looks = len(self.looks.sizes) - 1
        most = self._most(size, looks - 1 - at)
        error = ERROR / looks / max(1, len(self.racers) - 1)
        kept = [
            each
            for place, each in enumerate(ranked)
            if place < LAST
            or each.known() >= after
            or (place < most and not self._is_behind(each, ranked[0], size, error))
        ]
        # in the order given: whoever is at it loads what it has in place
        return [each for each in left if each in kept]

    def _most(self, size: int, before: int) -> int:
        """How many may go on after a look, with so many looks before everything."""
        if not before or self.hurries():
            return LAST
        return LAST << before if size >= SURE else len(self.racers)

    def _is_behind(self, racer: Racer, best: Racer, size: int, error: float) -> bool:
        places = self.looks.places(size)
        ends = np.cumsum((0, *(self.strata or (self.looks.total,))))
        strata = np.diff(np.searchsorted(places, ends)).tolist()
        rows = self._values(racer, places), self._values(best, places)
        pictures = self.pictures[list(places)]
        row, leader = rows[0] - self.tie, rows[1]
        return is_behind(row, leader, pictures, self.looks.total, error, strata)

    def _values(self, racer: Racer, places: Sequence[int]) -> Floats:
        """Scores at places of the evaluation set."""
        found = racer.scored
        values = np.array(found.values)
        if found.is_whole:
            return values[list(places)]
        at: Floats = values[np.searchsorted(found.seen, places)]
        return at
