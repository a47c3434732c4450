"""Two rivals of the same size: what is done by hand, and what single groups suggest.

The even mix is a uniform allocation at a width between two that there are; the additive
optimum is what tools that go by the sensitivity of each group alone come to. Like the
uniform allocations they are always measured, whatever the strategy and the trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.records import ADDITIVE, EVEN_MIX
from allocator.search.baseline import await_baselines, measure_baseline
from allocator.search.propose import prior
from allocator.space.even_mix import even_mix
from allocator.strategies._knapsack import knapsack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.records import TrialRecord
    from allocator.search.running import Search
    from allocator.space.model import ModelSpace


def rivals(
    search: Search, space: ModelSpace, *, later: bool = False
) -> dict[str, Allocation]:
    """The two within a budget, by kind, measured on the search set.

    What another process measures is waited for, unless that is done `later`. There is
    no additive optimum where no time was left to take the prior.
    """
    found = {EVEN_MIX: even_mix(space, best_method(space, search.records))}
    damage = prior(search)
    if damage is not None:
        found[ADDITIVE] = knapsack(space, damage)
    with search.watch.phase("rivals") as progress:
        for done, (kind, allocation) in enumerate(found.items()):
            progress(done, len(found))
            measure_baseline(search, allocation, kind)
        if not later:
            await_baselines(search)
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
