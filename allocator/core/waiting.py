"""Reads that may never end: who waits is told for what, and may stop waiting.

A disk or a network that is gone lets a read wait in the kernel, where nothing reaches
it. So it waits in a thread of its own, and whoever wants what is read can be
interrupted. What is mapped into memory cannot be read so.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from allocator.core.amounts import duration
from allocator.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Read = TypeVar("Read")

# seconds after which is said what is waited for, and between two looks at the time
PATIENCE, LOOK = 20.0, 0.5
# of a folder's files those that are opened by their names
READ = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".safetensors", ".yaml")
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Heeding:
    """Who is told of long waits, and who may end them by raising something."""

    say: Callable[[str], object] = lambda _: None
    check: Callable[[], object] = lambda: None


NOBODY = Heeding()
HEEDING: ContextVar[Heeding] = ContextVar("heeding", default=NOBODY)


@contextmanager
def heeding(
    say: Callable[[str], object], check: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Have long waits told, and ended where `check` raises something."""
    before = HEEDING.set(Heeding(say, check))
    try:
        yield
    finally:
        HEEDING.reset(before)


@dataclass
class Place:
    """What is being read, and since when."""

    path: Path
    since: float = field(default_factory=time.monotonic)

    def at(self, path: Path) -> Path:
        """Go on to the next."""
        self.path, self.since = path, time.monotonic()
        return path


class _Reading(Thread, Generic[Read]):
    """Reads, and keeps what comes of it; nobody has to wait for it."""

    def __init__(self, read: Callable[[Place], Read], place: Place) -> None:
        super().__init__(name="reading", daemon=True)
        self.read, self.place, self.done = read, place, Event()
        self.found: list[Read] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Read."""
        try:
            self.found.append(self.read(self.place))
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()


def answered(path: Path, read: Callable[[Place], Read]) -> Read:
    """What `read` gives, in a thread that can be left behind.

    Args:
        path: that is read first.
        read: is given a `Place`, to tell of further paths.

    Raises:
        Exception: what it raises, or whoever is heeded.
    """
    place, told = Place(path), Path()
    heeded = HEEDING.get()
    reading: _Reading[Any] = _Reading(read, place)
    try:
        reading.start()
    except RuntimeError:
        # no thread is to be had: it is waited for as it ever was
        return read(place)
    while not reading.done.wait(LOOK):
        heeded.check()
        waited = time.monotonic() - place.since
        if waited >= PATIENCE and place.path != told:
            told = place.path
            heeded.say(
                f"waiting for {told}, which has not answered for {duration(waited)}: "
                "its disk or network may be gone (Ctrl-C ends; all that is finished is "
                "kept)"
            )
    try:
        if reading.error is not None:
            raise reading.error
        found: Read = reading.found[0]
        return found
    finally:
        # an error holds on to all that led to it
        del reading


def check_answers(path: Path) -> None:
    """See that something named by a user answers, and can be read at all.

    Raises:
        DataError: it is a pipe, a socket or a device, or is a folder that has one.
    """
    answered(path, _look)


def _look(place: Place) -> None:
    try:
        mode = place.path.stat().st_mode
        check_kind(place.path, mode)
        if stat.S_ISDIR(mode):
            with os.scandir(place.path) as entries:
                for entry in entries:
                    if entry.name.endswith(READ):
                        file = place.at(Path(entry.path))
                        check_kind(file, file.stat().st_mode)
    except OSError:
        # what is not there, or may not be read, is said by whoever reads it
        return


def check_kind(path: Path, mode: int) -> None:
    """Refuse what could be read for ever.

    Args:
        path: of something.
        mode: what the system says of it (`st_mode`).

    Raises:
        DataError: says what it is.
    """
    kind = next((name for is_kind, name in KINDS if is_kind(mode)), None)
    if kind is not None:
        raise DataError(f"{path} is {kind}, and no file or folder that can be read")
