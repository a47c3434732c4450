"""Races that a kill interrupts: candidates and looks are kept rung by rung."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.allocation import Allocation
from allocator.core.finite import is_number
from allocator.space.model import limit_of
from allocator.strategies._base import Candidate
from allocator.study.owners import Owner, new_owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Choice
    from allocator.search.running import Search
    from allocator.space.model import ModelSpace

# an attribute of a study: the race that is under way for a goal
RACE = "race:"


def keep_race(search: Search, space: ModelSpace, found: Sequence[Candidate]) -> None:
    """Keep candidates, and the looks that were taken at them so far."""
    labels = list(search.setup.space.by_label)

    def places(allocation: Allocation) -> list[int]:
        return [labels.index(str(choice)) for _, choice in allocation]

    kept = {
        "limit": limit_of(space),
        "owner": str(new_owner()),
        "labels": labels,
        "candidates": [[places(c.allocation), c.predicted, c.spread] for c in found],
        "looks": [
            [places(a), *key, value if is_number(value) else None]
            for a, key, value in search.rungs.fresh
        ],
    }
    search.journal.set_attribute(RACE + search.goal.name, kept)


def unfinished_race(search: Search, space: ModelSpace) -> list[Candidate]:
    """Candidates of a race that a kill interrupted; its looks are known from here on.

    Asked once: later races are those of this process, or of others that are alive.
    """
    name = RACE + search.goal.name
    kept = None if search.has_raced else search.journal.attribute(name)
    search.has_raced = True
    if not kept or kept["limit"] != limit_of(space):
        return []
    owner = Owner.read(kept["owner"])
    if owner.is_here and owner.runs:
        return []
    found = _read(search, kept)
    begun = {
        entry.digest
        for entry in search.journal.entries(search.setup.space)
        if entry.about["kind"] == "proposal"
    }
    return [] if begun & {each.allocation.digest for each in found} else found


def _read(search: Search, kept: dict[str, Any]) -> list[Candidate]:
    space, rungs = search.setup.space, search.rungs
    choices: list[Choice] = [space.by_label[label] for label in kept["labels"]]

    def allocation(places: Sequence[int]) -> Allocation:
        chosen = (choices[place] for place in places)
        return Allocation(tuple(zip(space.keys, chosen, strict=True)))

    rungs.fresh.clear()
    for places, kind, size, value in kept["looks"]:
        seen = allocation(places)
        if (kind, size) not in rungs.seen(seen):
            rungs.learn(seen, (kind, size), value)
            rungs.fresh.append((seen, (kind, size), value))
    return [Candidate(allocation(p), *about) for p, *about in kept["candidates"]]
