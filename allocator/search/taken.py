"""Damage tables of a study: taken once, by probes that a kill interrupts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from allocator.core.clock import Clock
from allocator.core.errors import StudyError
from allocator.study.journal import PART

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.allocation import Choice
    from allocator.search.running import Search
    from allocator.space.base import Space

    Table = dict[tuple[str, Choice], float]
    Take = Callable[[Table, Callable[[int], object]], Table]

# seconds of probes that a kill may lose
PROBES_KEPT = 5.0


def taken(
    search: Search, space: Space, name: str, total: int, take: Take
) -> Table | None:
    """A table that the study keeps by a name, taken if it does not.

    None where there is no time for it.

    Args:
        search: whose study it is; its watch is shown the phase "probes".
        space: the groups and choices of the table.
        name: the study's attribute.
        total: how many probes there are.
        take: takes those that are not in the table it is given, which it completes,
            and tells how many there are. It returns the whole table.
    """
    since = Clock()
    kept = search.journal.damage(space, name)
    if kept is not None:
        return kept
    part = name + PART
    found = search.journal.damage(space, part) or {}

    def tick(done: int) -> None:
        nonlocal since
        progress(done, total)
        if since.seconds > PROBES_KEPT:
            search.journal.keep_damage(found, part)
            since = Clock()
        if search.deadline.is_reached(search):
            raise TimeoutError

    with search.watch.phase("probes") as progress:
        try:
            table = take(found, tick)
        except TimeoutError:
            search.journal.keep_damage(found, part)
            search.watch.say(f"time limit reached after {len(found)} of {total} probes")
            return None
        except BaseException:
            with suppress(StudyError):
                search.journal.keep_damage(found, part)
            raise
    search.journal.keep_damage(table, name)
    search.journal.set_attribute(part, None)
    return table
