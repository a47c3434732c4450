"""Join a study that others search in: serve who leads, or lead where nobody does."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.bench.prepare import prepare
from allocator.core.clock import Clock
from allocator.core.errors import BusyError, GoneError, StudyError
from allocator.core.study import STORAGE_TIMEOUT, StudySpec
from allocator.search.crew.leading import pieces_of
from allocator.search.crew.serving import Worker, leader_of
from allocator.search.engines import NONE
from allocator.search.run import run_prepared
from allocator.study.board import REQUEST, Board
from allocator.study.identity import difference, parts_of
from allocator.study.journal import Journal
from allocator.study.making import IDENTITY, PARTS
from allocator.study.surroundings import compared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.bench.pieces import Pieces
    from allocator.bench.prepare import Setup
    from allocator.core.watch import Watch
    from allocator.study.board import Record

# seconds between two looks for a study
PAUSE = 0.5
# who began a search may have had an engine
WITHOUT_ENGINE = {"engine": NONE, "ray_address": None}


def join(
    name: str,
    storage: str | None,
    own: Mapping[str, Any],
    watch: Watch,
    timeout: float = STORAGE_TIMEOUT,
    wait: float = 0.0,
) -> str:
    """Do what is to be done in a study until nothing is; says what that was.

    Args:
        name: the study's.
        storage: its URL, None for the default one.
        own: what differs here from the request: model, data, device.
        watch: is told how far it is.
        timeout: how long to wait while the storage is locked, in seconds.
        wait: how long to wait for the study to be begun, in seconds.

    Raises:
        StudyError: there is no such study, or it measures something else than this
            process would.
        AllocateError: what a search raises, where this process leads one.
    """
    journal = _opened(name, storage, timeout, wait)
    joined = Joined(journal, Board.open(journal.url, name, timeout), own, watch)
    while (todo := joined.todo()) is not None:
        record, leads = todo
        if leads:
            if joined.serves(record):
                break
        else:
            joined.goes_on(record)
    with suppress(StudyError):
        # looking for something to do has made one
        joined.board.clear()
    return joined.told()


@dataclass
class Joined:
    """A process that helps with a study.

    `own` is what differs here from the request; `made` are benches that it has opened,
    `told_apart` says whether it was said how it differs from who leads.
    """

    journal: Journal
    board: Board
    own: Mapping[str, Any]
    watch: Watch
    led: int = 0
    made: list[Pieces] = field(default_factory=list)
    told_apart: bool = False

    def __post_init__(self) -> None:
        self.worker = Worker(self.board, self.watch, self._pieces)

    def todo(self) -> tuple[Record, bool] | None:
        """Whom to serve (True), or whose search to go on with (False), if any."""
        try:
            if (leader := leader_of(self.board)) is not None:
                return leader, True
            left = self.board.unfinished()
        except GoneError:
            # who was the last took the board away
            return self.todo() if self.board.is_there_again() else None
        return None if left is None else (left, False)

    def serves(self, leader: Record) -> bool:
        """Serve a leader until it ends; says whether that is all there is to do."""
        self.watch.say(f"helping {leader.sentence} with study {self.journal.name!r}")
        ended = self.worker.serve(leader)
        left = self.todo()
        # what somebody interrupted is left to whoever begins it again
        return ended and not (left and left[1])

    def goes_on(self, left: Record) -> None:
        """Lead a search that another process left."""
        name = self.journal.name
        self.watch.say(f"{left.sentence} left study {name!r} unfinished: going on")
        # what it has in memory is loaded again
        self.made.clear()
        run_prepared(self._setup(left), self.watch, Clock())
        self.led += 1

    def told(self) -> str:
        """What it did, in a sentence."""
        done, led = self.worker.done, self.led
        if not done and not led:
            return "nothing is to be done in this study"
        ends = f"; it led {led} search{'es' if led > 1 else ''} to the end"
        return f"this worker did {done:,} pieces{ends if led else ''}"

    def _pieces(self, leader: Record) -> Pieces:
        if not self.made:
            own = pieces_of(self._setup(leader), self.journal, self.watch)
            self.made.append(own)
        return self.made[0]

    def _setup(self, record: Record) -> Setup:
        """The request of a leader, on this machine.

        Raises:
            StudyError: it is another one here.
        """
        name, given = self.journal.name, {**self.own}
        mixed = bool(given.pop("mixed", False))
        asked = {**record.about[REQUEST], "study": name, "storage": self.journal.url}
        asked = {**asked, **given, **WITHOUT_ENGINE}
        setup = prepare(StudySpec.read(asked), watch=self.watch)
        warnings, refusal = compared(self.journal, setup.arithmetic, mixed=mixed)
        if refusal:
            raise StudyError(
                f"{refusal}; --mixed-devices helps all the same, with other numbers"
            )
        if not self.told_apart:
            for warning in warnings:
                self.watch.say(warning)
            self.told_apart = True
        if not mixed:
            _check(setup, self.journal)
        return setup


def _opened(name: str, storage: str | None, timeout: float, wait: float) -> Journal:
    clock = Clock()
    while True:
        try:
            return Journal.load(storage, name, timeout)
        except BusyError:
            raise
        except StudyError:
            if clock.seconds >= wait:
                raise
        time.sleep(PAUSE)


def _check(setup: Setup, journal: Journal) -> None:
    """Refuse to help where this machine would measure something else."""
    if journal.attribute(IDENTITY) == setup.identity:
        return
    differs = difference(journal.attribute(PARTS), parts_of(setup.identity))
    raise StudyError(
        f"study {journal.name!r} measures "
        f"{differs or 'another model or data than are here'}: say where its own are "
        "on this machine (--model, --data)"
    )
