"""Hands in other processes, reached through the records of a study's board."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from allocator.search.crew.crew import HandError
from allocator.study.board import READY, SAID, SERVES, TOLD, WORKER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.study.board import Board, Record

# of letters, over the life of this process: who leads has had none of them before
_numbers = count(1)
# seconds between two looks at who is there
EVERY = 1.0


@dataclass
class Mailbox:
    """A worker's mailbox, as who leads sees it."""

    board: Board
    record: Record
    number: int = 0
    given: int = 0
    _seen: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"worker {self.record.sentence}"

    def give(self, pieces: Sequence[dict[str, Any]]) -> None:
        """Have some pieces done."""
        self.number, self.given = next(_numbers), len(pieces)
        letter = {"number": self.number, "pieces": list(pieces)}
        self.board.set(self.record.key, TOLD, letter)

    def found(self) -> Sequence[dict[str, Any]] | None:
        """What came out of what was given last, None while it is not known.

        Raises:
            HandError: it cannot be done there.
        """
        glance = self.board.glance(self.record.key, SAID)
        if glance == self._seen:
            return None
        said = self.board.read(self.record.key).letter(SAID)
        self._seen = glance
        if said.get("number") != self.number:
            return None
        found: list[dict[str, Any]] = said.get("found", [])
        if reason := said.get("failed"):
            raise HandError(str(reason))
        if len(found) != self.given:
            raise HandError(f"it gave {len(found)} results for {self.given} pieces")
        return found


@dataclass
class Mailboxes:
    """The workers that serve a leader, known by its `token`."""

    board: Board
    token: str
    _known: dict[int, Mailbox] = field(default_factory=dict)
    _looked: float = float("-inf")

    def hands(self) -> Sequence[Mailbox]:
        """Workers that are ready; dead ones are taken off the board.

        Of whoever is known that is asked once a second.
        """
        now = time.monotonic()
        if self._known and now - self._looked < EVERY:
            return list(self._known.values())
        self._looked = now
        found: dict[int, Mailbox] = {}
        for record in self.board.records(WORKER):
            if record.about.get(SERVES) != self.token:
                continue
            if record.is_dead:
                self.board.remove(record.key)
            elif record.about.get(READY):
                box = self._known.get(record.key) or Mailbox(self.board, record)
                box.record = record
                found[record.key] = box
        self._known = found
        return list(found.values())

    def close(self) -> None:
        """Workers see for themselves that their leader is gone."""
