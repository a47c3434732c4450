"""Which looks were taken for one proposal: rows that descend from the same few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.allocation import Allocation
from allocator.study.journal import LOOKS
from allocator.study.unread import as_written

if TYPE_CHECKING:
    from allocator.space.base import Space
    from allocator.study.journal import Journal


def descent(journal: Journal, space: Space) -> dict[str, int]:
    """The number of the proposal that an allocation was first looked at for, by digest.

    Candidates of one proposal are changes to the same few allocations, and what is
    chosen among them is one of them.
    """
    found: dict[str, int] = {}
    with as_written("looks", journal.name):
        kept = sorted(journal.attributes(LOOKS), key=lambda each: each["at"])
        for number, each in enumerate(kept):
            choices = [space.by_label[label] for label in each["labels"]]
            for places in {tuple(row[0]) for row in each["rows"]}:
                chosen = tuple(choices[place] for place in places)
                allocation = Allocation(tuple(zip(space.keys, chosen, strict=True)))
                found.setdefault(allocation.digest, number)
    return found
