"""Which trials are of the cells that an allocation puts in place now.

A bank may be made anew with other cells (on another machine, say), and then a score of
before is of an allocation that nobody can put in place any more. Such a trial is
superseded: it stays where it is, and is no measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from allocator.core.allocation import Allocation
    from allocator.study.entry import Entry

# numbers of superseded trials, as the latest search left them, for those who only read
SUPERSEDED = "superseded trials"


@dataclass
class InPlace:
    """Tells trials that are superseded.

    Attributes:
        applied: gives the digest of the cells that an allocation puts in place; None
            where there is no bank to ask.
        numbers: of the trials that are superseded, where there is none.
    """

    applied: Callable[[Allocation], str] | None = None
    numbers: frozenset[int] = frozenset()
    _known: dict[str, str] = field(default_factory=dict)

    def sorted_out(self, entries: Iterable[Entry]) -> list[Entry]:
        """The same trials, those that are superseded marked so."""
        return [
            replace(e, superseded=True, score=None, past=e.score)
            if self._is_superseded(e)
            else e
            for e in entries
        ]

    def _is_superseded(self, entry: Entry) -> bool:
        if self.applied is None:
            return entry.number in self.numbers
        # what was only looked at has none
        then = entry.about.get("applied")
        if then is None:
            return False
        if entry.digest not in self._known:
            self._known[entry.digest] = self.applied(entry.allocation)
        return bool(then != self._known[entry.digest])
