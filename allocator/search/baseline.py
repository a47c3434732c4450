"""What is always measured on the search set, by this process or by another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from allocator.bench.finalize import BANK
from allocator.search.leftover import PAUSE, take_over
from allocator.study.looks import DIVERGENCE
from allocator.study.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.search.running import Search


def measure_baseline(search: Search, allocation: Allocation, kind: str) -> None:
    """Measure what is always measured on the search set, where it was not yet.

    What another process is measuring is not waited for here: see `await_baselines`.
    """
    # asked each time: another process may be at it too
    if allocation.digest not in search.journal.taken(search.setup.space):
        if search.setup.asked.rungs:
            search.look_at(allocation)
        if search.measure(allocation, kind):
            return
    search.awaited[allocation.digest] = allocation, kind


def await_baselines(search: Search) -> None:
    """Wait for baselines that other processes measure: finalists are compared to them.

    What those give up is measured here. At the time limit nothing is waited for.
    """
    said = False
    while search.awaited:
        owner = _at_baselines(search)
        if owner is None:
            left = list(search.awaited.values())
            search.awaited.clear()
            for allocation, kind in left:
                if allocation.digest not in search.journal.taken(search.setup.space):
                    measure_baseline(search, allocation, kind)
            continue
        if not said:
            search.watch.say(
                f"waiting for a baseline: {owner.sentence} measures it; where that "
                "shows no sign of life for a minute it is measured here"
            )
        said = True
        if search.deadline.is_reached(search):
            return
        time.sleep(PAUSE)
        take_over(search)


def _at_baselines(search: Search) -> Owner | None:
    """Who is measuring a baseline that is waited for."""
    for entry in search.journal.entries(search.setup.space):
        if entry.digest in search.awaited and not entry.state.is_finished():
            return Owner.read(str(entry.about.get("owner", "")))
    return None


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
            rungs.begin(new, kind, size)
    samples = setup.samples["search"]
    search.ahead.replies_of([(each, samples, BANK) for each in new])
