"""What files hold, by digest: remembered across runs, so that each is read once."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from allocator.core.drafts import clear_drafts
from allocator.core.errors import DataError
from allocator.core.home import cache_home
from allocator.core.waiting import answered, check_kind
from allocator.core.watch import Silent
from quant.files import locked, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from allocator.core.waiting import Place
    from allocator.core.watch import Watch

# files that remember: digests of files, and contents of pictures that could be read
CONTENTS, READABLE = "contents", "readable"
# files that are remembered, at some 100 bytes each: the pictures of several tasks
MOST = 400_000
# Nanoseconds after which a change shows in a file's time of change, whatever the file
# system: a file that is read sooner may change again unseen.
SETTLED = 2_000_000_000
# hexadecimal digits
LENGTH = 32


class Contents:
    """Digests of files.

    A file counts as unchanged while its device, inode, size, and times of modification
    and of change (in nanoseconds) are as they were when it was read.

    Attributes:
        watch: is shown a phase where files have to be read.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self.watch = watch or Silent()
        self.memory = memory_of(CONTENTS)
        self.known: dict[str, str] | None = None

    def of(self, files: Iterable[Path], phase: str) -> Mapping[Path, str]:
        """Beginning of the SHA-256 of each file, of its bytes alone.

        Args:
            files: any number of them, in any order; links stand for what they lead to.
            phase: what they are, for the watch.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        if self.known is None:
            self.known = recalled(self.memory)
        wanted = list(dict.fromkeys(files))
        states = answered(wanted[0], partial(_states, wanted)) if wanted else {}
        # of several names of one file, one is read
        unknown = {s: file for file, s in states.items() if s not in self.known}
        if unknown:
            self._read(unknown, self.known, phase)
        return {file: self.known[state] for file, state in states.items()}

    def _read(
        self, unknown: Mapping[str, Path], known: dict[str, str], phase: str
    ) -> None:
        lasting: dict[str, str] = {}
        try:
            with self.watch.phase(phase) as tell:
                for done, (state, file) in enumerate(unknown.items()):
                    tell(done, len(unknown))
                    read = partial(_digest, file, state)
                    known[state], lasts = answered(file, read)
                    if lasts:
                        lasting[state] = known[state]
                tell(len(unknown), len(unknown))
        finally:
            # whoever is interrupted goes on there
            remember(self.memory, lasting)


def forget() -> None:
    """Forget what files held: they are read again when they are next needed.

    Raises:
        DataError: what is remembered cannot be removed.
    """
    for memory in map(memory_of, (CONTENTS, READABLE)):
        try:
            memory.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{memory} cannot be removed: {error.strerror}") from None


def memory_of(name: str) -> Path:
    """The file that remembers something."""
    return cache_home() / name


def _states(files: Iterable[Path], place: Place) -> dict[Path, str]:
    """What changes whenever a file does, of each."""
    return {file: _state(place.at(file)) for file in files}


def _state(file: Path) -> str:
    try:
        found = os.stat(file)
        check_kind(file, found.st_mode)
        return _told(found)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None


def _told(found: os.stat_result) -> str:
    return (
        f"{found.st_dev}:{found.st_ino}:{found.st_size}:"
        f"{found.st_mtime_ns}:{found.st_ctime_ns}"
    )


def _digest(file: Path, state: str, _: Place) -> tuple[str, bool]:
    """Digest of a file, and whether it stands for the file in this state for good."""
    now = time.time_ns()
    try:
        with file.open("rb", buffering=0) as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()[:LENGTH]
            after = os.fstat(opened.fileno())
    except OSError as error:
        raise _unreadable(file, error) from None
    return found, _told(after) == state and now - after.st_ctime_ns > SETTLED


def _unreadable(file: Path, error: OSError | ValueError) -> DataError:
    reason = error.strerror if isinstance(error, OSError) else None
    return DataError(f"{file} cannot be read: {reason or error}")


def recalled(memory: Path) -> dict[str, str]:
    """What was found, by a name without spaces.

    Nothing where the memory is missing, or not what was written. Its first line is the
    digest of the others: a damaged one must not pass for another picture.
    """
    try:
        head, _, body = memory.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if head.decode(errors="replace") != hashlib.sha256(body).hexdigest():
        return {}
    lines = (line.split(" ", maxsplit=1) for line in body.decode().splitlines())
    return {state: found for state, found in lines}


def remember(memory: Path, lasting: Mapping[str, str]) -> None:
    """Add what was found to what any process has remembered.

    The oldest go beyond `MOST`. Where nothing can be written, all is only read again.
    """
    if not lasting:
        return
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with locked(memory.with_suffix(".lock")):
            kept = [*{**recalled(memory), **lasting}.items()][-MOST:]
            body = "".join(f"{state} {found}\n" for state, found in kept).encode()
            head = f"{hashlib.sha256(body).hexdigest()}\n".encode()
            clear_drafts(memory.parent)
            replace_file(memory, lambda draft: draft.write_bytes(head + body))
