"""Several proposals at once: a strategy is asked again before there is a score."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allocator.search.narrowing import Narrowing
    from allocator.strategies._base import Candidate, Known, Strategy


def at_once(
    proposer: Strategy | Narrowing, known: Known, times: int, count: int = 1
) -> list[list[Candidate]]:
    """Ask for several proposals, each time with all candidates before pending.

    Args:
        proposer: who is asked.
        known: what is known before the first; what is pending in it stays so.
        times: proposals wanted, 1 or more.
        count: candidates for each of them.

    Returns:
        A list of candidates for each proposal, best first; no allocation is in two of
        them. Fewer lists where nothing new is left, none at all where there is nothing.
    """
    found: list[list[Candidate]] = []
    while len(found) < times:
        own = proposer.ask(known, count)
        if not own:
            break
        found.append(own)
        pending = (*known.pending, *(each.allocation for each in own))
        known = replace(known, pending=pending)
    return found
