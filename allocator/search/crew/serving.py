"""The side of a worker: it does what its leader tells it, until that is gone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import AllocateError, GoneError, reason
from allocator.study.board import (
    BANK,
    DONE,
    LEADER,
    OPEN,
    READY,
    SAID,
    SERVES,
    STOPPED,
    TOLD,
    WORKER,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.bench.pieces import Pieces
    from allocator.core.watch import Watch
    from allocator.study.board import Board, Record

# seconds between two looks into the mailbox: at least, of the time that nothing came,
# and at most; and between two looks at the leader
SHORTEST, SHARE, LONGEST, LEADS = 0.005, 0.1, 0.5, 1.0
# what one piece may fail by without the worker being at fault
FAILURES = (AllocateError, OSError, MemoryError, RuntimeError, ValueError, KeyError)


@dataclass
class Worker:
    """One that serves leaders of a study, one after the other.

    `pieces` makes a bench ready for a leader, and does what is told; `done` counts what
    was.
    """

    board: Board
    watch: Watch
    pieces: Callable[[Record], Pieces]
    done: int = 0

    def serve(self, leader: Record) -> bool:
        """Do what a leader tells; returns whether it came to an end, or is dead."""
        about = {SERVES: leader.token}
        try:
            with self.board.record(WORKER, about) as own:
                if self._begins(leader):
                    # the bank is made by all, each stage by whoever takes it first
                    pieces = self.pieces(leader)
                    self.board.set(own.key, READY, True)
                    with self.watch.phase("worker") as progress:
                        self._listen(leader, own, pieces, progress)
            return self.board.read(leader.key).stage in (DONE, STOPPED)
        except GoneError:
            # it was the last there, and took the board away
            return True

    def _listen(
        self, leader: Record, own: Record, pieces: Pieces, progress: Any
    ) -> None:
        seen, number, heard, looked = "", 0, time.monotonic(), 0.0
        while True:
            now, glance = time.monotonic(), self.board.glance(own.key, TOLD)
            letter: dict[str, Any] = {}
            if glance != seen:
                seen, letter = glance, self.board.read(own.key).letter(TOLD)
            if letter.get("number", 0) > number:
                number = letter["number"]
                said = self._answer(pieces, letter["pieces"])
                self.board.set(own.key, SAID, {"number": number, **said})
                self.done += len(letter["pieces"])
                progress(self.done, self.done)
                heard = time.monotonic()
                continue
            if now - looked > LEADS:
                leader, looked = self.board.read(leader.key), now
                if leader.is_dead or leader.stage in (DONE, STOPPED):
                    return
            time.sleep(min(LONGEST, max(SHORTEST, SHARE * (now - heard))))

    def _answer(self, pieces: Pieces, told: Sequence[Any]) -> dict[str, Any]:
        said = answer(pieces, told)
        if why := said.get("failed"):
            self.watch.say(f"what was asked cannot be done here: {why}")
        return said

    def _begins(self, leader: Record) -> bool:
        """Wait until there is something to do; False where the leader is gone."""
        while True:
            now = self.board.read(leader.key)
            if now.is_dead or now.stage in (DONE, STOPPED):
                return False
            if now.stage in (BANK, OPEN):
                return True
            time.sleep(LEADS)


def answer(pieces: Pieces, told: Sequence[Any]) -> dict[str, Any]:
    """What comes out of pieces, in order, or why nothing does."""
    try:
        return {"found": list(pieces.done(told))}
    except FAILURES as error:
        return {"failed": reason(error)}


def leader_of(board: Board) -> Record | None:
    """A leader at work: of several the one with the fewest workers."""
    serving = [each.about.get(SERVES) for each in board.living(WORKER)]
    found = [each for each in board.living(LEADER) if each.stage not in (DONE, STOPPED)]
    return min(found, key=lambda e: (serving.count(e.token), e.number), default=None)
