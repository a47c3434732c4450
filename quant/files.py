"""Files that appear whole or not at all, and locks that end with their process."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from allocator.core.drafts import DRAFT as DRAFT
from allocator.core.drafts import draft_file
from allocator.core.full import naming_the_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


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


def replace_file(
    file: Path, write: Callable[[Path], object], needed: float | None = None
) -> None:
    """Write a file beside its place, then move it there: whole or not at all.

    Raises:
        FullError: the disk is full, for the bytes `needed`; nothing has changed.
    """
    replace_files({file: write}, needed)


def replace_files(
    writers: Mapping[Path, Callable[[Path], object]], needed: float | None = None
) -> None:
    """Write several files beside their places, then move all of them there.

    Raises:
        FullError: the disk is full, for the bytes `needed` of all; nothing has changed.
    """
    with ExitStack() as stack:
        drafts: dict[Path, Path] = {}
        for file, write in writers.items():
            with naming_the_disk(file.parent, file.name, needed):
                file.parent.mkdir(parents=True, exist_ok=True)
                drafts[file] = stack.enter_context(draft_file(file.parent))
                write(drafts[file])
                drafts[file].chmod(0o644)
        for file, draft in drafts.items():
            draft.replace(file)
