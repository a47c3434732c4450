"""Studies in a file that only grows: Optuna's journal, kept whole."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from optuna.storages.journal import JournalFileBackend

if TYPE_CHECKING:
    from io import RawIOBase
    from pathlib import Path

# how Optuna begins every line
BEGINS = b'{"op_code"'
# bytes read at once to find the end of the last whole line
BLOCK = 2**16
# bytes of a line: a thousand times what we keep under one name
LONGEST = 2**26


class LogFile(JournalFileBackend):
    """Optuna's journal file, without two of its traps.

    A process that is killed while it writes leaves half a line; the next one wrote its
    own behind it, and from then on nobody could read either. And a file that is removed
    in use was made again, without what it held.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it holds something else.
    """

    def __init__(self, file: Path) -> None:
        _check_is_journal(file)
        # its lock is a link to the file, which must not hang on the folder we are in
        super().__init__(str(file.absolute()))
        self._made = _place(self._file_path)
        # bytes of the lines that were checked
        self._seen = 0

    def read_logs(self, log_number_from: int) -> Any:
        """What lines say, from one on."""
        self._check_is_there()
        try:
            self._check_lines()
            yield from super().read_logs(log_number_from)
        except (RecursionError, ValueError):
            raise ValueError("one of its lines is damaged") from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines behind the last whole one, all of them or none."""
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        self._lock.acquire()
        try:
            self._check_is_there()
            # without a buffer, which would be written again when the file is closed
            with open(self._file_path, "r+b", buffering=0) as file:
                end = file.seek(_whole(file))
                file.truncate()
                try:
                    _write(file, "".join(lines).encode())
                    os.fsync(file.fileno())
                except OSError:
                    # a disk that is full: what is said to have failed is not there
                    file.truncate(end)
                    raise
        finally:
            self._lock.release()

    def _check_lines(self) -> None:
        """Refuse a line that nobody wrote before it is read as a whole."""
        with open(self._file_path, "rb") as file:
            file.seek(self._seen)
            while line := file.readline(LONGEST + 1):
                if len(line) > LONGEST:
                    raise ValueError("one of its lines is too long")
                if line.endswith(b"\n"):
                    self._seen = file.tell()

    def _check_is_there(self) -> None:
        if _place(self._file_path) != self._made:
            raise OSError("it was removed or replaced while it was in use")


def _place(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _check_is_journal(file: Path) -> None:
    """Refuse a file of another kind: what is written would be written behind it."""
    if not file.exists():
        return
    with file.open("rb") as opened:
        start = opened.read(len(BEGINS))
    # a machine that lost power may leave zeros
    if not BEGINS.startswith(start) and start.strip(b"\0"):
        raise ValueError("it holds something other than studies")


def _write(file: RawIOBase, text: bytes) -> None:
    while text:
        text = text[file.write(text) or 0 :]


def _whole(file: RawIOBase) -> int:
    """Length of a file's whole lines in bytes."""
    at = file.seek(0, os.SEEK_END)
    while at > 0:
        start = max(0, at - BLOCK)
        file.seek(start)
        found = (file.read(at - start) or b"").rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0
