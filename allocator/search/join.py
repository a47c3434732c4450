"""Join a study that others search in: serve who leads, or lead where nobody does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from allocator.bench.prepare import prepare
from allocator.core.clock import Clock
from allocator.core.errors import BusyError, StudyError
from allocator.core.study import STORAGE_TIMEOUT, StudySpec
from allocator.search.crew.leading import pieces_of
from allocator.search.crew.serving import Worker, leader_of
from allocator.search.engines import NONE
from allocator.search.run import run_prepared
from allocator.study.board import DONE, GOAL, REQUEST, STOPPED, Board
from allocator.study.journal import Journal
from allocator.study.making import IDENTITY, kept_with

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
    board = Board.open(journal.url, name, timeout)
    made: list[Pieces] = []
    led = 0

    def setup_of(record: Record) -> Setup:
        asked = {**record.about[REQUEST], "study": name, "storage": storage, **own}
        setup = prepare(StudySpec.read({**asked, **WITHOUT_ENGINE}), watch=watch)
        _check(setup, journal)
        return setup

    def pieces(leader: Record) -> Pieces:
        if not made:
            made.append(pieces_of(setup_of(leader), journal, watch))
        return made[0]

    worker = Worker(board, watch, pieces)
    while True:
        leader = leader_of(board)
        if leader is not None:
            watch.say(f"helping {leader.sentence} with study {name!r}")
            worker.serve(leader)
            ended = board.read(leader.key).stage in (DONE, STOPPED)
            if ended and leader_of(board) is None:
                return _told(worker.done, led)
        elif (left := unfinished(board)) is not None:
            watch.say(f"{left.sentence} left study {name!r} unfinished: going on")
            # what it has in memory is loaded again
            made.clear()
            run_prepared(setup_of(left), watch, Clock())
            led += 1
        else:
            return _told(worker.done, led)


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


def unfinished(board: Board) -> Record | None:
    """The latest leader that did not come to its end, and nobody after it."""
    latest: dict[Any, Record] = {}
    for record in board.ended():
        latest[record.about.get(GOAL)] = record
    left = [each for each in latest.values() if each.stage != DONE]
    return max(left, key=lambda each: each.number, default=None)


def _check(setup: Setup, journal: Journal) -> None:
    known = kept_with(journal.study).get(IDENTITY)
    if known != setup.identity:
        raise StudyError(
            f"study {journal.name!r} measures another model, data or kind of device "
            "than are here: give --model, --data and --device as they are found here"
        )


def _told(done: int, led: int) -> str:
    """What a worker did, in a sentence."""
    if not done and not led:
        return "nothing is to be done in this study"
    ends = f"; it led {led} search{'es' if led > 1 else ''} to the end" if led else ""
    return f"this worker did {done:,} pieces{ends}"
