"""What was finished and could not be written into a study: kept in a file meanwhile.

One file for a study of a storage and of measurements, below the data home, as JSON. It
appears whole or not at all, and a piece of it goes once it is in the study.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from allocator.core.clock import Clock
from allocator.core.errors import StudyError, reason
from allocator.core.home import data_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Piece = dict[str, Any]

FOLDER, RESERVE = "unsent", "reserve"
# of the file
LAYOUT = 1
# bytes held ready for a disk that is full when something has to be kept on it
RESERVED = 2**20
# seconds to wait for another process at the file, and between two tries
HELD, PAUSE = 300.0, 0.05


@dataclass(frozen=True)
class Unsent:
    """The file of a study, which is there while it holds something.

    `name` is the study's, for messages.
    """

    file: Path
    name: str

    @staticmethod
    def of(name: str, place: str, identity: str) -> Unsent:
        """The file of a study.

        Args:
            name: the study's.
            place: where its storage is, without a password.
            identity: digest of what makes its measurements comparable.
        """
        told = hashlib.sha256(json.dumps([place, identity]).encode()).hexdigest()
        return Unsent(data_home() / FOLDER / f"{name}-{told[:12]}.json", name)

    def read(self) -> list[Piece]:
        """What is kept, in order.

        Raises:
            StudyError: it cannot be read, or a newer version wrote it.
        """
        try:
            kept = json.loads(self.file.read_bytes())
            if kept["layout"] > LAYOUT:
                raise ValueError("a newer version of allocate wrote it")
            return list(kept["unsent"])
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{self.file} holds what could not be written into study "
                f"{self.name!r}, and cannot be read ({reason(error)}): move it away, "
                "and what it holds is measured again"
            ) from None

    def keep(self, piece: Piece) -> None:
        """Keep a piece, in place of an earlier one of its key.

        Raises:
            StudyError: it cannot be kept either.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.alone():
                pieces = {each["key"]: each for each in self.read()}
                # what was in the study before the first is what is there now
                before = pieces.get(piece["key"], piece).get("before")
                pieces[piece["key"]] = {**piece, "before": before}
                self._write(list(pieces.values()))
        except OSError as error:
            raise StudyError(
                f"nor could it be kept in {self.file} ({reason(error)})"
            ) from error

    def drop(self, key: str) -> None:
        """Forget a piece, which is in the study or not wanted any more."""
        left = [each for each in self.read() if each["key"] != key]
        if left:
            self._write(left)
        else:
            self.file.unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes off the file; file systems without locks do without."""
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            _lock(folder)
            yield
        finally:
            os.close(folder)

    def _write(self, pieces: list[Piece]) -> None:
        text = json.dumps({"layout": LAYOUT, "study": self.name, "unsent": pieces})
        try:
            self._replace(text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            (self.file.parent / RESERVE).unlink(missing_ok=True)
            self._replace(text)

    def _replace(self, text: str) -> None:
        draft = self.file.with_name(f".{self.file.name}.{token_hex(4)}")
        try:
            with draft.open("w") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            draft.replace(self.file)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def reserve(self) -> None:
        """Hold some room ready: the storage may be on this disk, which may fill up."""
        place = self.file.parent / RESERVE
        with suppress(OSError):
            if place.exists() and place.stat().st_size == RESERVED:
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as opened:
                opened.write(bytes(RESERVED))


def _lock(folder: int) -> None:
    clock = Clock()
    while clock.seconds < HELD:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE)
        except OSError:
            return
        else:
            return
