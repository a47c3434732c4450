"""Which looks were taken for one proposal: rows that descend from the same few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.study.kept_looks import LOOKS
from allocator.study.places import Readers
from allocator.study.unread import as_written

if TYPE_CHECKING:
    from allocator.space.base import Space
    from allocator.study.journal import Journal


def descent(journal: Journal, space: Space) -> dict[str, int]:
    """The number of the proposal that an allocation was first looked at for, by digest.

    Candidates of one proposal are changes to the same few allocations, and what is
    chosen among them is one of them.
    """
    readers = Readers(space)
    found: dict[str, int] = {}
    with as_written("looks", journal.name):
        kept = sorted(journal.attributes(LOOKS), key=lambda each: each["at"])
        for number, each in enumerate(kept):
            reader = readers.of(each["labels"])
            for places in {tuple(row[0]) for row in each["rows"]}:
                found.setdefault(reader.read(places).digest, number)
    return found
