"""Single linears, after the race: level switches within the budget.

From the best finalist on, round by round. Changes of single linears are looked at where
they would be made (divergence, few samples of the search set), and knapsacks over what
they did give allocations with few changes and with many. The best of these by another
look are finalized and scored; the next round goes on from the best of them, or tries
others where none scores more than before.

What is kept is held against where it began, by paired tests on the whole search set.
These share one error over all that is finalized, so that more rounds do not let chance
in: where nothing is better, something is kept with probability ERROR at most. Even then
little is lost, as where it began takes part on the evaluation set too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

from allocator.bench.finalize import BANK, FINALIZED
from allocator.core.finite import is_number
from allocator.search.finals import REFINED, Contender
from allocator.search.linears import linear_tables
from allocator.search.nearby import changes, lowest, near
from allocator.search.paired import is_better
from allocator.search.rungs import spread_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation, Choice
    from allocator.search.finals import Finals
    from allocator.space.model import FineSpace

# rounds, what each finalizes at most, and the error that the tests of all share
ROUNDS, BATCH, ERROR = 2, 3, 0.5
# changes that are looked at in a round, and samples of a look
LOOKED, SAMPLES = 64, 128
# an attribute of a study: what was finalized, round by round, for a goal
KEPT = "refinement:"


def refine(finals: Finals) -> None:
    """Add to the contenders what single linears gain over the best of them, if they do.

    What was found is kept with the study: asked again, nothing is looked at anew.
    """
    search = finals.search
    start = next(iter(finals.last()), None)
    if start is None or start.weights == BANK:
        return
    way = Way.of(finals, start)
    with search.watch.phase("refinement") as progress:
        for at in range(ROUNDS):
            progress(at, ROUNDS)
            looked = LOOKED * SAMPLES
            if at >= len(way.rounds) and not search.deadline.allows(
                search, BATCH, looked=looked
            ):
                search.watch.say(f"no time is left to refine after {at} rounds")
                break
            if not search.deadline.attempt(partial(way.go, at)):
                search.watch.say(f"time is up within round {at + 1} of refinement")
                break
        progress(ROUNDS, ROUNDS)
    if passed := kept(start, way.steps, finals.strata(finals.total)):
        finals.contenders.append(max(passed, key=lambda each: each.rank))


def kept(
    start: Contender, steps: Sequence[Contender], strata: Sequence[int] = ()
) -> list[Contender]:
    """Steps that are better than the start, by tests that share the error."""
    level = ERROR / (ROUNDS * BATCH)
    return [
        each
        for each in steps
        if each.values and is_better(each.values, start.values, level, strata)
    ]


@dataclass
class Way:
    """Where refinement has gone, round by round, and where it goes next.

    `rounds` are plain data as the study keeps them: the choices of all that each
    finalizes; `steps` are these, scored, and `best` is where the next round begins.
    """

    finals: Finals
    fine: FineSpace
    start: str
    best: Contender
    rounds: list[list[list[int]]] = field(default_factory=list)
    steps: list[Contender] = field(default_factory=list)

    @staticmethod
    def of(finals: Finals, start: Contender) -> Way:
        """A way from a start; the study knows how it went so far."""
        search, digest = finals.search, start.allocation.digest
        fine = search.setup.space.by_linear()
        found = search.journal.attribute(KEPT + search.goal.name)
        known = found is not None and found["start"] == digest
        return Way(finals, fine, digest, start, found["rounds"] if known else [])

    def go(self, at: int) -> bool:
        """Find what a round finalizes, or recall it, and score it: True once done."""
        search, labels = self.finals.search, list(self.fine.by_label)
        if at == len(self.rounds):
            rows = [
                [labels.index(str(choice)) for _, choice in each]
                for each in self._batch()
            ]
            self.rounds = [*self.rounds, rows]
            told = {"start": self.start, "rounds": self.rounds}
            search.journal.set_attribute(KEPT + search.goal.name, told)
        batch = [self.fine.coarsened(self._read(row)) for row in self.rounds[at]]
        wanted = [(each, FINALIZED) for each in batch]
        self.finals.shipped.values_ahead(wanted, self.finals.total)
        for found in batch:
            step = Contender(found, [REFINED], search.setup.space.bpw(found))
            self.finals.score(step, self.finals.total)
            self.steps.append(step)
        self.best = max([self.best, *self.steps], key=lambda each: each.rank)
        return True

    def _read(self, row: Sequence[int]) -> Allocation:
        """An allocation of single linears, as a study keeps it."""
        choices: list[Choice] = list(self.fine.by_label.values())
        picks = zip(self.fine.keys, (choices[place] for place in row), strict=True)
        return self.fine.smallest.replace(dict(picks))

    def _batch(self) -> list[Allocation]:
        """Allocations of single linears that look better than this one, a few."""
        search, fine = self.finals.search, self.fine
        damage = next(iter(linear_tables(search).values()), None)
        if damage is None:
            return []
        here = self.best.allocation.over(fine.coarse.spec, fine.spec)
        bench = search.bench.over(fine.spec)
        few = spread_out(search.setup.samples["search"], SAMPLES)

        def looked(allocations: Sequence[Allocation]) -> list[float]:
            """Looks in order of execution: each begins where it differs from one."""
            ordered = sorted(allocations, key=bench.order)
            search.ahead.looks_at(ordered, few, fine=True)
            values = {}
            for each, ahead in zip_longest(ordered, ordered[1:]):
                search.deadline.check(search)
                search.count(each, len(few))
                known = search.ahead.look(bench, each, few)
                values[each.digest] = (
                    bench.divergence(each, few, ahead) if known is None else known
                )
            return [values[each.digest] for each in allocations]

        wanted = changes(fine, here, damage, LOOKED)
        now, *others = looked([here, *(here.replace(dict([at])) for at in wanted)])
        effects = zip(wanted, (other - now for other in others), strict=True)
        known = {at: effect for at, effect in effects if is_number(effect)}
        tried = [self._read(row) for rows in self.rounds for row in rows]
        found = near(fine, here, known, tried)
        losses = dict(zip((each.digest for each in found), looked(found), strict=True))
        better = [each for each in found if losses[each.digest] < now]
        return lowest(better, losses, BATCH)
