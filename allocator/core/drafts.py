"""Drafts: files and folders that are being written, told from those of dead processes.

Whoever writes a draft holds a lock on it, which ends with the process whatever ends
that. A draft that can be locked is therefore nobody's, and is taken away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# how names of drafts begin, and how those end that are locked while they are written:
# in a folder of the user's nothing else is touched
DRAFT, LOCKED = ".part-", ".allocate"
# in a draft of a folder: what it takes the place of, under its own name
OLD = "old"


@contextmanager
def draft_file(folder: Path, prefix: str = DRAFT) -> Iterator[Path]:
    """An empty file in a folder; taken away afterwards, if it still is there."""
    while True:
        handle, name = tempfile.mkstemp(LOCKED, prefix, folder)
        try:
            if not _is_held(handle, name):
                continue
            yield Path(name)
        finally:
            os.close(handle)
            Path(name).unlink(missing_ok=True)
        return


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """An empty folder in a folder; taken away afterwards with all that is in it."""
    while True:
        name = tempfile.mkdtemp(LOCKED, DRAFT, folder)
        try:
            handle = os.open(name, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            if not _is_held(handle, name):
                continue
            yield Path(name)
        finally:
            shutil.rmtree(name, ignore_errors=True)
            os.close(handle)
        return


def _is_held(handle: int, name: str) -> bool:
    """Lock a draft; whether nobody took it away before it was locked."""
    # file systems that know no locks: nothing is taken away there
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
    return os.path.lexists(name)


def clear_drafts(folder: Path, prefix: str = DRAFT) -> int:
    """Take away what processes that died were writing in a folder; how much that was.

    What a folder was about to replace comes back, where nothing has its place. Where
    nothing can be taken away, it stays.
    """
    cleared = 0
    with suppress(OSError), os.scandir(folder) as entries:
        found = [each for each in entries if each.name.startswith(prefix)]
        for each in found:
            if each.name.endswith(LOCKED):
                with suppress(OSError):
                    cleared += _clear(Path(each.path))
    return cleared


def is_abandoned(draft: Path) -> bool:
    """Whether the process that wrote a draft is no more, as far as locks tell."""
    with suppress(OSError), _unheld(draft):
        return True
    return False


@contextmanager
def _unheld(draft: Path) -> Iterator[None]:
    """Hold a draft that nobody writes.

    Raises:
        OSError: somebody does, or that cannot be known.
    """
    handle = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _clear(draft: Path) -> int:
    with _unheld(draft):
        if draft.is_dir():
            _give_back(draft)
            shutil.rmtree(draft)
        else:
            draft.unlink()
    return 1


def _give_back(draft: Path) -> None:
    """What was about to be replaced takes its place again, where that is free."""
    old = draft / OLD
    for each in old.iterdir() if old.is_dir() else ():
        if not os.path.lexists(draft.parent / each.name):
            each.rename(draft.parent / each.name)
