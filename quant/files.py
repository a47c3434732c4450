"""Files that appear whole or not at all, and locks that end with their process."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# of files that are being written
DRAFT = ".part-"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock; wait for it if another process or thread does."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def claimed(file: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does; says whether it is held."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def replace_file(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there: whole or not at all."""
    replace_files({file: write})


def replace_files(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files beside their places, then move all of them there."""
    drafts: dict[Path, Path] = {}
    try:
        for file, write in writers.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=DRAFT, dir=file.parent)
            os.close(handle)
            drafts[file] = Path(name)
            write(drafts[file])
            drafts[file].chmod(0o644)
        for file, draft in drafts.items():
            draft.replace(file)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
