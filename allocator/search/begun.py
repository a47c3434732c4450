"""What a study and a bank have already of what a search would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.allocation import FULL
from allocator.core.errors import BusyError, StudyError
from allocator.core.records import LINEAR_ADDITIVE, LINEAR_FISHER, RIVALS
from allocator.search.counts import Done
from allocator.search.goals import goal_of
from allocator.search.linears import KEPT
from allocator.space.model import limit_of
from allocator.study.journal import DAMAGE, PART, RESULTS, Journal
from allocator.study.proposed import made_nearby
from allocator.study.storage import study_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.bench.prepare import Setup
    from allocator.space.base import Space


def done_of(setup: Setup, solved: Mapping[str, int]) -> Done:
    """What need not be done again; `solved` are weights that the bank has, by method.

    Raises:
        BusyError: another program holds the storage.
    """
    asked, space = setup.asked, setup.space
    try:
        known = study_names(asked.storage, asked.storage_timeout)
    except BusyError:
        raise
    except StudyError:
        # there is no such file yet
        known = []
    if setup.study not in known:
        return Done(solved=solved)
    journal = Journal.load(asked.storage, setup.study, asked.storage_timeout)
    taken = journal.taken(space)
    kinds = [
        entry.about["kind"]
        for entry in journal.entries(space)
        if entry.counts and entry.about.get("limit") == limit_of(space)
    ]
    fine, goal = space.by_linear(), goal_of(asked, space).name
    return Done(
        full=space.full.digest in taken,
        uniform=sum(a.digest in taken for a in space.uniform if space.fits(a)),
        rivals=sum(kind in kinds for kind in RIVALS),
        probed=_probes(journal, space, DAMAGE),
        made=journal.made(space, goal),
        nearby=made_nearby(journal, space, goal, limit_of(space)),
        gradients=journal.damage(fine, KEPT + LINEAR_FISHER) is not None,
        probed_linears=_probes(journal, fine, KEPT + LINEAR_ADDITIVE),
        concluded=journal.attribute(RESULTS + goal) is not None,
        solved=solved,
    )


def _probes(journal: Journal, space: Space, name: str) -> int:
    """Probes of a table that is there, or of the part of it that is."""
    for kept in (name, name + PART):
        found = journal.damage(space, kept)
        if found is not None:
            return sum(choice.bits < FULL for _, choice in found)
    return 0
