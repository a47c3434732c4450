"""What processes left that died: measured by whoever sees that they did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from allocator.search.full import full_precision
from allocator.study.entry import VALUES
from allocator.study.owners import Owner, owner_of
from allocator.study.storage import INTERNAL, LIMIT, OVER, SIZE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from allocator.search.running import Search
    from allocator.study.entry import Entry

# seconds between two looks at others
PAUSE = 1.0
# of a trial: what is made anew with it
OWN = (*INTERNAL, SIZE, LIMIT, OVER, "constraints", VALUES, "kind")


def note_dead(search: Search) -> None:
    """Give up the trials of dead processes, and remember them."""
    given_up = search.journal.release_stale()
    if given_up:
        search.left.update(given_up)
        # they may have been replied to some of it
        search.replies.refresh()


def take_over(search: Search) -> None:
    """Measure what dead processes were at: for this goal, or baselines.

    As if they had not died: what they knew of it is kept with it.
    """
    note_dead(search)
    space = search.setup.space
    if not search.left:
        return
    left = [e for e in search.journal.entries(space) if e.number in search.left]
    search.left.clear()
    for entry in left:
        wanted = entry.about.get("budget") in (None, search.goal.name)
        fits = space.fits(entry.allocation) and entry.about["kind"] != "full"
        if wanted and fits and entry.digest not in search.journal.taken(space):
            search.measure(entry.allocation, entry.about["kind"], _known_of(entry))


def _known_of(entry: Entry) -> dict[str, Any]:
    """What a process knew of an allocation before it measured it."""
    about = {name: v for name, v in entry.about.items() if name not in OWN}
    return about | {name: entry.about.get(name) for name in ("limit", "budget")}


def await_full(search: Search) -> None:
    """Have full precision measured, by this process or by another that is at it."""
    said = False
    while owner := _at_full(search):
        if not said:
            search.watch.say(
                f"waiting for full precision: {owner.sentence} measures it; where that "
                "shows no sign of life for a minute it is measured here"
            )
        said = True
        search.deadline.check(search)
        time.sleep(PAUSE)
        note_dead(search)
    full_precision(search)


def is_elsewhere(search: Search) -> bool:
    """Whether another process measures full precision, or did before it died."""
    return _at_full(search) is not None


def _at_full(search: Search) -> Owner | None:
    """Who is measuring full precision."""
    space = search.setup.space
    full = [e for e in search.journal.entries(space) if e.digest == space.full.digest]
    left = [e for e in full if not e.state.is_finished()]
    if not left or any(entry.score is not None for entry in full):
        return None
    return Owner.read(str(left[0].about.get("owner", "")))


def settle(search: Search) -> None:
    """Wait until it is known of all that is under way whether anybody is at it."""
    take_over(search)
    said = False
    while trials := _unknown(search):
        if not said:
            search.watch.say(
                f"waiting up to {max(map(search.journal.leases.left, trials)):.0f} s: "
                f"{owner_of(trials[0]).sentence} began a measurement, and may be dead"
            )
        said = True
        if search.deadline.is_reached(search):
            return
        time.sleep(PAUSE)
        take_over(search)


def _unknown(search: Search) -> list[FrozenTrial]:
    """Trials of this goal, and baselines, whose processes may be dead or alive."""
    wanted = (None, search.goal.name)
    return [
        trial
        for trial in search.journal.unknown()
        if {**trial.user_attrs, **trial.system_attrs}.get("budget") in wanted
    ]
