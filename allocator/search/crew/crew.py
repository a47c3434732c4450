"""Pieces of a search, given to whoever has his hands free: this process among others.

The process that leads takes pieces from the front of the row, and hands others from its
back, several at once, fewer toward the end. A piece whose hand is gone, or failed, goes
back into the row: what is given comes back once. A search without other hands does all
itself, in order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from allocator.core.errors import StudyError, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Piece = dict[str, Any]
    Found = dict[str, Any]

# seconds between two looks at hands: at least, of the time that they have had what they
# are at, and at most while pieces are away, and else; no look before so much of the
# time has passed that this process would take
SHORTEST, SHARE, LONGEST, IDLE = 0.01, 0.1, 0.25, 1.0
EARLIEST = 0.7
# seconds to wait for what is being written
ENDS = 5.0
# a hand that takes so many times as long as this process would, and seconds more, has
# something that does not answer: its lease alone would not tell
STALLED, SPARE = 20.0, 120.0
# a hand is given one of so many parts of what is left to a head; all of it where a head
# is done with that in so many seconds, as telling and being told takes its time too
PARTS, QUICK = 2, 2.0


class Hand(Protocol):
    """Somebody else who does pieces, in order, one row at a time.

    `found` gives what came out of the row that was given last,
    None while that is not known, and raises HandError where it cannot be done there.
    """

    @property
    def name(self) -> str:
        """For people."""

    def give(self, pieces: Sequence[Piece]) -> None:
        """Have some pieces done."""

    def found(self) -> Sequence[Found] | None:
        """What came out of what was given last."""


class Source(Protocol):
    """Where hands come from."""

    def hands(self) -> Sequence[Hand]:
        """Those that are there now; one that is missing is gone."""

    def close(self) -> None:
        """Let all go."""


class HandError(Exception):
    """Somebody could not do what was given, and says why in a sentence."""


@dataclass
class Row:
    """Pieces on their way: `left` to be given, `away` with a hand, `back` from one.

    `since` says when a hand was given what it has.
    """

    left: deque[tuple[int, Piece]]
    away: dict[int, list[tuple[int, Piece]]] = field(default_factory=dict)
    since: dict[int, float] = field(default_factory=dict)
    back: deque[tuple[int, Found]] = field(default_factory=deque)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return not (self.left or self.away or self.back)


@dataclass
class Crew:
    """All that do pieces of a search; by default nobody but this process.

    `say` tells people what happens to hands.
    """

    sources: Sequence[Source] = ()
    say: Callable[[str], object] = lambda _: None
    _hands: dict[int, Hand] = field(default_factory=dict)
    _row: Row | None = None
    _refused: set[int] = field(default_factory=set)
    _moved: threading.Condition = field(default_factory=threading.Condition)
    # seconds that a piece of some kind took here
    _pace: dict[tuple[Any, int], float] = field(default_factory=dict)
    _ends: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def size(self) -> int:
        """Hands beside this process."""
        with self._moved:
            return len(self._hands)

    def open(self) -> None:
        """Begin to look for hands."""
        if self.sources and self._thread is None:
            self._thread = threading.Thread(target=self._hand_out, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Let all hands go."""
        self._ends.set()
        with ExitStack() as closing:
            for source in self.sources:
                # each, whatever interrupts the others
                closing.enter_context(suppress(StudyError))
                closing.callback(source.close)
            with self._moved:
                self._moved.notify_all()
            if self._thread is not None:
                # a storage that hangs must not hold up the end
                self._thread.join(ENDS)

    def done(
        self,
        pieces: Sequence[Piece],
        here: Callable[[Sequence[Piece]], Iterator[Found]],
        waits: Callable[[], object] = lambda: None,
    ) -> Iterator[tuple[int, Found, bool]]:
        """What comes out of pieces, as it comes: place, result, whether of a hand.

        Args:
            pieces: to be done once each.
            here: does some in this process, one after the other.
            waits: is called now and then while others are waited for.
        """
        row = Row(deque(enumerate(pieces)))
        with self._moved:
            self._row = row
            self._moved.notify_all()
        try:
            while True:
                at = self._next(row, waits)
                if at is None:
                    return
                place, found = at
                if found is not None:
                    yield place, found, True
                    continue
                # the one behind it is likely to come next
                ahead = [pieces[place], *pieces[place + 1 : place + 2]]
                since = time.monotonic()
                own = next(here(ahead))
                self._pace[_kind(pieces[place])] = time.monotonic() - since
                yield place, own, False
        finally:
            with self._moved:
                self._row = None

    def _next(
        self, row: Row, waits: Callable[[], object]
    ) -> tuple[int, Found | None] | None:
        """A result from elsewhere, a piece to be done here, or None at the end."""
        while True:
            with self._moved:
                if row.back:
                    return row.back.popleft()
                if row.left:
                    return row.left.popleft()[0], None
                if row.is_over:
                    return None
                self._moved.wait(LONGEST)
                stalled = self._stalled(row)
            for name in stalled:
                self.say(f"{name} does not answer: what it was at is done by others")
            waits()

    def _stalled(self, row: Row) -> list[str]:
        """Take back what has been away for too long; names of who had it."""
        found, now = [], time.monotonic()
        for key, pieces in list(row.away.items()):
            each = self._pace.get(_kind(pieces[0][1]), SPARE)
            if now - row.since[key] > STALLED * each * len(pieces) + SPARE:
                self._refused.add(key)
                self._put_back(key)
                found += [self._hands[key].name] if key in self._hands else []
        return found

    def _hand_out(self) -> None:
        """Look at hands again and again, in a thread of its own."""
        while not self._ends.is_set():
            try:
                self._look()
            except StudyError:
                # a storage that is away: pieces come back to who leads
                self._lost({})
            except Exception as error:
                # who waits for them would wait for ever
                self._lost({})
                self.say(f"nobody else does pieces any more: {reason(error)}")
                return
            with self._moved:
                if self._ends.is_set():
                    return
                self._moved.wait(self._pause())

    def _pause(self) -> float:
        """Seconds until a hand may be done with what it has."""
        row, now = self._row, time.monotonic()
        if row is None or row.is_over or not self._hands:
            return IDLE
        pauses = [LONGEST]
        for key, pieces in row.away.items():
            passed = now - row.since[key]
            due = EARLIEST * self._pace.get(_kind(pieces[0][1]), 0.0) * len(pieces)
            pauses.append(due - passed if passed < due else SHARE * passed)
        return max(SHORTEST, min(pauses))

    def _look(self) -> None:
        """Take what is back, give what is left."""
        hands = {id(h): h for source in self.sources for h in source.hands()}
        self._lost(hands)
        for key, hand in hands.items():
            self._taken(key, hand)
            if pieces := self._picked(key):
                hand.give([piece for _, piece in pieces])

    def _lost(self, hands: dict[int, Hand]) -> None:
        """Take note of who is there, and of what was with those who are not."""
        with self._moved:
            gone = self._hands.keys() - hands.keys()
            names = [self._hands[key].name for key in gone]
            came = [hands[key].name for key in hands.keys() - self._hands.keys()]
            self._hands = dict(hands)
            # others may get their keys
            self._refused &= hands.keys()
            for key in gone:
                self._put_back(key)
        for name in came:
            self.say(f"{name} joined")
        for name in names:
            self.say(f"{name} is gone: what it was at is done by others")

    def _taken(self, key: int, hand: Hand) -> None:
        row = self._row
        if row is None or key not in row.away:
            return
        try:
            found = hand.found()
        except HandError as error:
            with self._moved:
                self._refused.add(key)
                self._put_back(key)
            self.say(f"{hand.name} does nothing more: {error}")
            return
        if found is None:
            return
        with self._moved:
            places = [place for place, _ in row.away.pop(key, ())]
            row.back.extend(zip(places, found, strict=True))
            self._moved.notify_all()

    def _put_back(self, key: int) -> None:
        row = self._row
        if row is not None and key in row.away:
            row.left.extend(row.away.pop(key))
            self._moved.notify_all()

    def _picked(self, key: int) -> list[tuple[int, Piece]]:
        """Pieces from the back of the row, for a hand that has none."""
        with self._moved:
            row = self._row
            if row is None or not row.left or key in row.away or key in self._refused:
                return []
            each = len(row.left) / (len(self._hands) + 1)
            pace = self._pace.get(_kind(row.left[-1][1]))
            is_quick = pace is not None and pace * each < QUICK
            count = max(1, int(each if is_quick else each / PARTS))
            picked = [row.left.pop() for _ in range(count)][::-1]
            row.away[key], row.since[key] = picked, time.monotonic()
            return picked


def _kind(piece: Piece) -> tuple[Any, int]:
    """What pieces that take equally long have in common."""
    return piece.get("kind"), len(piece.get("samples", ()))
