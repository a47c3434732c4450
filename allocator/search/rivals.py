"""Two rivals of the same size: what is done by hand, and what single groups suggest.

The even mix is a uniform allocation at a width between two that there are; the additive
optimum is what tools that go by the sensitivity of each group alone come to. Like the
uniform allocations they are always measured, whatever the strategy and the trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.bench.finalize import BANK
from allocator.core.records import ADDITIVE, EVEN_MIX
from allocator.search.propose import prior
from allocator.space.even_mix import even_mix
from allocator.strategies._knapsack import knapsack
from allocator.study.looks import DIVERGENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.records import TrialRecord
    from allocator.search.running import Search
    from allocator.space.model import ModelSpace


def rivals(search: Search, space: ModelSpace) -> dict[str, Allocation]:
    """The two within a budget, by kind, measured on the search set.

    There is no additive optimum where no time was left to take the prior.
    """
    found = {EVEN_MIX: even_mix(space, best_method(space, search.records))}
    damage = prior(search)
    if damage is not None:
        found[ADDITIVE] = knapsack(space, damage)
    with search.watch.phase("rivals") as progress:
        for done, (kind, allocation) in enumerate(found.items()):
            progress(done, len(found))
            measure_baseline(search, allocation, kind)
        progress(len(found), len(found))
    return found


def best_uniform(space: ModelSpace, records: Sequence[TrialRecord]) -> list[Allocation]:
    """The best uniform allocation of each method, the best first.

    Of those that fit, and on the search set: the evaluation set is left out, so that
    nothing more is chosen on it.
    """
    scores = {record.allocation.digest: record.score for record in records}
    fitting = [each for each in space.uniform if space.fits(each)]
    fitting.sort(
        key=lambda each: (-scores.get(each.digest, float("-inf")), space.bpw(each))
    )
    found: dict[str | None, Allocation] = {}
    for each in fitting:
        found.setdefault(space.uniform_choice(each).method, each)
    return list(found.values())


def best_method(space: ModelSpace, records: Sequence[TrialRecord]) -> str | None:
    """The method of the best uniform allocation that fits, on the search set."""
    return space.uniform_choice(best_uniform(space, records)[0]).method


def candidates(search: Search) -> dict[str, Allocation]:
    """Allocations from elsewhere that were asked to take part, by name."""
    return dict(search.setup.candidates)


def begin_baselines(search: Search, allocations: Sequence[Allocation]) -> None:
    """Have a crew begin what `measure_baseline` is about to measure."""
    if not search.crew.size:
        return
    setup, rungs = search.setup, search.rungs
    taken = search.journal.taken(setup.space)
    new = [each for each in allocations if each.digest not in taken]
    new.sort(key=search.bench.order)
    for kind, size, _ in rungs.ladder if setup.asked.rungs else ():
        if kind == DIVERGENCE:
            lacking = [a for a in new if (kind, size) not in rungs.seen(a)]
            rungs.before(lacking, kind, size)
    samples = setup.samples["search"]
    search.ahead.replies_of([(each, samples, BANK) for each in new])


def measure_baseline(search: Search, allocation: Allocation, kind: str) -> None:
    """Measure what is always measured on the search set, where it was not yet."""
    # asked each time: another process may be at it too
    if allocation.digest not in search.journal.taken(search.setup.space):
        if search.setup.asked.rungs:
            search.look_at(allocation)
        search.measure(allocation, kind)
