"""Single linears, after the search: level switches within the budget.

From the best finalist on. Switches of single linears are ranked by what linears do
alone, the first of them are looked at (divergence, few samples of the search set), and
those that help are put together, one after another. A few steps of that way are
finalized and scored; one is kept where a paired test on the search set says that it is
better than what there was. All tests together share one error, so that trying more does
not let chance in: if no switch helped, one would be kept with probability ERROR. Even
then nothing is lost: where it began takes part on the evaluation set as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.search.finals import FEW, REFINED, Contender
from allocator.search.paired import could_be_best, is_better
from allocator.search.rivals import linear_damage
from allocator.search.rungs import spread_out
from allocator.search.shipped import BANK
from allocator.search.switches import Switch, switches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.allocation import Allocation, Choice
    from allocator.search.finals import Finals
    from allocator.space.model import FineSpace

# rounds, what each finalizes at most, and the error that all their tests share: see
# studies/statistics/refinement.py
ROUNDS, BATCH, ERROR = 3, 4, 0.5
# switches that are looked at in a round, and samples of a look
LOOKED, SAMPLES = 40, 128
# switches together, at which a step is finalized
LENGTHS = (1, 2, 4, 8)
# an attribute of a study: what was finalized, round by round, for a goal
ROUNDS_OF = "refinement:"


def refine(finals: Finals) -> None:
    """Add to the contenders what single linears gain over the best of them, if they do.

    What was tried is kept with the study: asked again, nothing is looked at anew.
    """
    search = finals.search
    start = next(iter(finals.last()), None)
    if start is None or start.weights == BANK:
        return
    fine = search.setup.space.by_linear()
    ways, best = _Ways(finals, fine, start.allocation), start
    with search.watch.phase("refinement") as progress:
        for at in range(ROUNDS):
            progress(at, ROUNDS)
            if not search.deadline.allows(search, BATCH):
                search.watch.say(f"no time is left to refine after {at} rounds")
                break
            batch = ways.round(at, best.allocation)
            found = _better(finals, best, batch)
            if found is not None:
                best = found
        progress(ROUNDS, ROUNDS)
    if best is not start:
        finals.contenders.append(best)


def _better(
    finals: Finals, best: Contender, batch: Sequence[Allocation]
) -> Contender | None:
    """The best of a batch, if one is surely better than what there was."""
    space, total = finals.search.setup.space, finals.total
    left = [Contender(each, [REFINED], space.bpw(each)) for each in batch]
    if total >= 2 * FEW:
        for each in left:
            finals.score(each, FEW)
        known = finals.shipped.values(best.allocation, best.weights, FEW)
        rows = [known, *(each.values for each in left)]
        kept = could_be_best(rows, finals.strata(FEW))
        left = [left[place - 1] for place in kept if place]
    for each in left:
        finals.score(each, total)
    level = ERROR / (ROUNDS * BATCH)
    passed = [
        each
        for each in left
        if each.values
        and is_better(each.values, best.values, level, finals.strata(total))
    ]
    return max(passed, key=lambda each: each.rank, default=None)


@dataclass
class _Ways:
    """What each round finalizes: kept, or found by looks."""

    finals: Finals
    fine: FineSpace
    start: Allocation

    def __post_init__(self) -> None:
        search = self.finals.search
        self.name = ROUNDS_OF + search.goal.name
        kept = search.journal.attribute(self.name)
        same = kept is not None and kept["start"] == self.start.digest
        self.kept = kept["rounds"] if same else []
        self.tried = {frozenset(keys) for keys in kept["tried"]} if same else set()
        self.bench = search.bench.over(self.fine.spec)

    def round(self, at: int, best: Allocation) -> list[Allocation]:
        """Allocations to finalize, at most BATCH, in terms of groups and exceptions."""
        names = list(self.fine.by_label)
        if at >= len(self.kept):
            found = self._found(best.over(self.fine.coarse.spec, self.fine.spec))
            rows = [[names.index(str(c)) for _, c in each] for each in found]
            self.kept = [*self.kept[:at], rows]
            kept = {"start": self.start.digest, "rounds": self.kept}
            kept["tried"] = sorted(map(sorted, self.tried))
            self.finals.search.journal.set_attribute(self.name, kept)
        choices: list[Choice] = list(self.fine.by_label.values())
        return [
            self.fine.coarsened(
                self.fine.smallest.replace(
                    dict(zip(self.fine.keys, (choices[n] for n in row), strict=True))
                )
            )
            for row in self.kept[at]
        ]

    def _found(self, best: Allocation) -> list[Allocation]:
        """Steps of a way on which the divergence falls, switch by switch."""
        damage = linear_damage(self.finals.search, self.fine)
        if damage is None:
            return []
        listed = switches(self.fine, best, damage)
        new = [each for each in listed if each.keys not in self.tried][:LOOKED]
        look = self._look()
        now = look(best)
        worth = {each: now - look(each.on(best)) for each in new}
        way = best
        made: list[Switch] = []
        steps: list[Allocation] = []
        for each in sorted(new, key=lambda one: -worth[one]):
            if worth[each] <= 0 or len(made) == LENGTHS[-1]:
                break
            longer = each.on(way)
            if any(each.keys & other.keys for other in made):
                continue
            if not self.fine.fits(longer) or (made and look(longer) >= now):
                continue
            way, now = longer, look(longer)
            made.append(each)
            self.tried.add(each.keys)
            if len(made) in LENGTHS:
                steps.append(way)
        if made and len(made) not in LENGTHS:
            steps.append(way)
        return steps[-BATCH:]

    def _look(self) -> Callable[[Allocation], float]:
        """The divergence of an allocation of single linears, as the bank has it."""
        search = self.finals.search
        few = spread_out(search.setup.samples["search"], SAMPLES)
        seen: dict[str, float] = {}

        def look(allocation: Allocation) -> float:
            if allocation.digest not in seen:
                search.count(allocation, len(few))
                seen[allocation.digest] = self.bench.divergence(allocation, few)
            return seen[allocation.digest]

        return look
