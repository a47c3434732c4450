"""What was proposed and looked at, as looks are judged by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.study.entry import CONTROL

if TYPE_CHECKING:
    from allocator.core.allocation import Allocation
    from allocator.space.base import Space
    from allocator.study.journal import Journal

# what was scored within this factor of a budget says something about it
NEAR = 0.85


@dataclass(frozen=True)
class Proposed:
    """A proposal, or a candidate that went as far as a trial of its own.

    `place` is the goal and the budget it was made for, `drawn` whether chance chose
    what it raced with, `score` that of the whole search set, if it was measured.
    """

    allocation: Allocation
    place: tuple[str | None, float | None]
    drawn: bool
    score: float | None = None


def proposed_in(journal: Journal, space: Space) -> tuple[Proposed, ...]:
    """What a study's trials say, each allocation once; baselines are none of it."""
    found: dict[str, Proposed] = {}
    for entry in journal.entries(space):
        about = entry.about
        if about.get("kind") not in ("proposal", "candidate"):
            continue
        first = found.get(entry.digest)
        place = about.get("budget"), about.get("limit")
        # passed over at first, it may be measured later
        found[entry.digest] = Proposed(
            entry.allocation,
            place if first is None else first.place,
            bool(about.get(CONTROL)) if first is None else first.drawn,
            entry.score if first is None or first.score is None else first.score,
        )
    return tuple(found.values())


def made_nearby(journal: Journal, space: Space, goal: str, limit: float) -> int:
    """Proposals for other goals than one, within NEAR of a budget in bits per weight.

    Finished or under way, in any process.
    """
    limits = [
        entry.about.get("limit")
        for entry in journal.entries(space)
        if entry.about.get("kind") == "proposal"
        and entry.about.get("budget") != goal
        and entry.counts
    ]
    return sum(1 for each in limits if each and NEAR <= each / limit <= 1 / NEAR)


def controls_made(journal: Journal, space: Space, goal: str) -> int:
    """Controls of a goal, finished or under way in any process."""
    return sum(
        entry.about.get("budget") == goal
        and bool(entry.about.get(CONTROL))
        and entry.counts
        for entry in journal.entries(space)
    )
