"""Single linears, after the race: level switches within the budget.

From the best finalist on, round by round. Changes of single linears are looked at where
they would be made (divergence, few samples of the search set), and knapsacks over what
they did give allocations with few changes and with many. The best of these by another
look are finalized; the next round goes on from the one whose finalized weights are
nearest to full precision, or tries others where none is nearer than before.

Each of these ways' steps is scored once, and held against where it began, by a paired
test on the whole search set. The tests share one error, so that more rounds do not let
chance in: where no step is better, one is kept with probability ERROR at most. Even
then little is lost, as where it began takes part on the evaluation set too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.finite import is_number
from allocator.search.finals import REFINED, Contender
from allocator.search.linears import linear_tables
from allocator.search.nearby import changes, lowest, near
from allocator.search.paired import is_better
from allocator.search.rungs import spread_out
from allocator.search.shipped import BANK, FINALIZED

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
    way = Way.of(finals, start.allocation)
    steps: list[Contender] = []
    with search.watch.phase("refinement") as progress:
        for at in range(ROUNDS):
            progress(at, ROUNDS)
            if at >= len(way.rounds) and not search.deadline.allows(search, BATCH):
                search.watch.say(f"no time is left to refine after {at} rounds")
                break
            found = way.step(at)
            if found is not None:
                bpw = search.setup.space.bpw(found)
                steps.append(Contender(found, [REFINED], bpw))
                finals.score(steps[-1], finals.total)
        progress(ROUNDS, ROUNDS)
    if passed := kept(start, steps, finals.strata(finals.total)):
        finals.contenders.append(max(passed, key=lambda each: each.rank))


def kept(
    start: Contender, steps: Sequence[Contender], strata: Sequence[int] = ()
) -> list[Contender]:
    """Steps that are better than the start, by tests that share the error."""
    level = ERROR / ROUNDS
    return [
        each
        for each in steps
        if each.values and is_better(each.values, start.values, level, strata)
    ]


@dataclass
class Way:
    """Where refinement has gone, round by round, and where it goes next.

    `rounds` are plain data as the study keeps them: the choices of what was finalized,
    its divergence then, and the place of the one that is nearer than before, if any is.
    """

    finals: Finals
    fine: FineSpace
    here: Allocation
    start: str
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def of(finals: Finals, start: Allocation) -> Way:
        """A way from a start, gone as far as the study knows."""
        search = finals.search
        fine = search.setup.space.by_linear()
        found = search.journal.attribute(KEPT + search.goal.name)
        known = found is not None and found["start"] == start.digest
        here = start.over(fine.coarse.spec, fine.spec)
        return Way(finals, fine, here, start.digest, found["rounds"] if known else [])

    def step(self, at: int) -> Allocation | None:
        """Where a round leads, in terms of groups and exceptions; None: nowhere new."""
        if at == len(self.rounds):
            self.rounds = [*self.rounds, self._round()]
            search = self.finals.search
            told = {"start": self.start, "rounds": self.rounds}
            search.journal.set_attribute(KEPT + search.goal.name, told)
        picked = self.rounds[at]["picked"]
        if picked is None:
            return None
        self.here = self._read(self.rounds[at]["rows"][picked])
        return self.fine.coarsened(self.here)

    def _read(self, row: Sequence[int]) -> Allocation:
        """An allocation of single linears, as a study keeps it."""
        choices: list[Choice] = list(self.fine.by_label.values())
        picks = zip(self.fine.keys, (choices[place] for place in row), strict=True)
        return self.fine.smallest.replace(dict(picks))

    def _round(self) -> dict[str, Any]:
        """What the next round finalizes, and which of it goes on."""
        batch = self._batch()
        before = self._divergence(self.here)
        after = [self._divergence(each) for each in batch]
        best = min(range(len(batch)), key=after.__getitem__, default=None)
        picked = None if best is None or after[best] >= before else best
        labels = list(self.fine.by_label)
        return {
            "rows": [[labels.index(str(c)) for _, c in each] for each in batch],
            "divergence": [value if is_number(value) else None for value in after],
            "picked": picked,
        }

    def _divergence(self, allocation: Allocation) -> float:
        """That of finalized weights."""
        found = self.fine.coarsened(allocation)
        return self.finals.shipped.divergence(found, FINALIZED, SAMPLES)

    def _batch(self) -> list[Allocation]:
        """Allocations of single linears that look better than this one, a few."""
        search, fine = self.finals.search, self.fine
        damage = next(iter(linear_tables(search).values()), None)
        if damage is None:
            return []
        bench = search.bench.over(fine.spec)
        few = spread_out(search.setup.samples["search"], SAMPLES)

        def look(allocation: Allocation) -> float:
            search.count(allocation, len(few))
            return bench.divergence(allocation, few)

        now = look(self.here)
        effects = {
            change: look(self.here.replace(dict([change]))) - now
            for change in changes(fine, self.here, damage, LOOKED)
        }
        known = {at: effect for at, effect in effects.items() if is_number(effect)}
        tried = [self._read(row) for each in self.rounds for row in each["rows"]]
        found = near(fine, self.here, known, tried)
        losses = {each.digest: look(each) for each in found}
        better = [each for each in found if losses[each.digest] < now]
        return lowest(better, losses, BATCH)
