"""Who leads a search: one process for each goal of a study; the next one where it dies.

Whoever would lead puts a record on the board. Of several for one goal the first leads,
as records are numbered by the storage, and the others serve it until it comes to its
end; then they find everything measured.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.errors import StudyError
from allocator.search.crew.crew import Crew
from allocator.search.crew.mailboxes import Mailboxes
from allocator.search.crew.serving import Worker
from allocator.search.goals import goal_of
from allocator.study.board import (
    BEGUN,
    DONE,
    GOAL,
    LEADER,
    REQUEST,
    STAGE,
    STOPPED,
    Board,
)
from allocator.study.outage import outage_of
from allocator.study.storage import without_password
from allocator.study.surroundings import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allocator.bench.pieces import Pieces
    from allocator.bench.prepare import Setup
    from allocator.core.watch import Watch
    from allocator.search.crew.crew import Source
    from allocator.study.board import Record
    from allocator.study.journal import Journal

    More = Callable[[Setup, Journal, Watch], list[Source]]


@dataclass(frozen=True)
class Lead:
    """A search that this process leads: its record, and its crew."""

    board: Board
    record: Record
    crew: Crew

    def at(self, stage: str) -> None:
        """Let workers see how far it is."""
        self.board.set(self.record.key, STAGE, stage)


@contextmanager
def leading(
    setup: Setup,
    journal: Journal,
    watch: Watch,
    more: More = lambda *_: [],
) -> Iterator[Lead]:
    """Lead a search, as soon as nobody else does for the same goal.

    Args:
        setup: the request.
        journal: its study.
        watch: is told who joins and who is gone.
        more: gives sources of hands beside the workers of the board.

    Raises:
        StudyError: the storage cannot be had.
    """
    asked = setup.asked
    board = Board.open(journal.url, journal.name, asked.storage_timeout)
    goal = goal_of(asked, setup.space).name
    about = {GOAL: goal, REQUEST: without_password(asked.to_json()), STAGE: BEGUN}
    with board.record(LEADER, about) as own:
        while (first := _before(board, own, goal)) is not None:
            watch.say(
                f"{first.sentence} is at this search: helping it, until it is done"
            )
            helper = Worker(board, watch, lambda _: pieces_of(setup, journal, watch))
            helper.serve(first)
            # with the model that it has loaded
            del helper
        note(journal)
        _tell_handed_in(journal, watch)
        sources: list[Source] = [
            Mailboxes(board, own.token),
            *more(setup, journal, watch),
        ]
        lead = Lead(board, own, Crew(sources, watch.say))
        try:
            yield lead
        except BaseException:
            lead.crew.close()
            # what ends it counts, and not that a storage is away as well
            with suppress(StudyError):
                lead.at(STOPPED)
            raise
        lead.crew.close()
        lead.at(DONE)
    with suppress(StudyError):
        # whoever comes now makes another
        board.clear()


def _tell_handed_in(journal: Journal, watch: Watch) -> None:
    outage = outage_of(journal.study)
    if outage is not None and (count := outage.handed_in):
        kept = "1 result" if count == 1 else f"{count} results"
        watch.say(f"{kept} that could not be written before: in the study now")


def _before(board: Board, own: Record, goal: str) -> Record | None:
    """A leader of the same goal that came before."""
    found = (r for r in board.living(LEADER) if r.about.get(GOAL) == goal)
    return next((r for r in found if r.number < own.number), None)


def pieces_of(setup: Setup, journal: Journal, watch: Watch) -> Pieces:
    """A bench that does pieces, with references and a bank as the study has them.

    Raises:
        AllocateError: the model cannot be loaded, or the bank not be made.
    """
    from allocator.bench.loading import open_bank, open_full_precision
    from allocator.bench.pieces import Pieces
    from allocator.bench.references import adopt, referred

    adopt(setup, journal)
    bench = open_full_precision(setup)
    setup = referred(setup, watch, bench, journal)
    bench.bank = open_bank(setup, watch)
    return Pieces(setup, bench, watch)
