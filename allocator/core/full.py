"""Disks that are full and memory that is out: told from other errors, and said."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.core.amounts import in_bytes
from allocator.core.errors import AllocateError, FullError, reason
from allocator.core.home import cache_home, data_home

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = {errno.ENOSPC, errno.EDQUOT}
# how libraries say so that are not written in Python: of full disks, of memory
SAID = tuple(os.strerror(number) for number in FULL)
TELLING = (RuntimeError, OSError, ImportError)
# bytes below which a disk counts as full when something was not written
LEAST = 2**16
OUT_OF_MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "not enough memory"),
    *("out of memory", "_alloc_failed", "failed to map segment", "unable to mmap"),
)


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that a disk is full."""
    while error is not None:
        if isinstance(error, FullError):
            return True
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(text in str(error) for text in SAID):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that there is not enough memory.

    torch says so by a `RuntimeError` on a CPU, and by a kind of it on a device; where
    a library or a file is mapped, the system says so.
    """
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        said = str(error).lower()
        if isinstance(error, TELLING) and any(x in said for x in OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


@contextmanager
def naming_the_disk(
    folder: Path, what: str, needed: float | None = None
) -> Iterator[None]:
    """Say of which folder the disk is full, and what does not fit there.

    Args:
        folder: that is written into.
        what: is written, as a sentence begins with it.
        needed: bytes that it takes, where they are known.

    Raises:
        FullError: the disk is full. Other errors pass.
    """
    try:
        yield
    except FullError:
        raise
    except Exception as error:
        if not (is_full(error) or _is_silent(error, folder)):
            raise
        raise full(folder, what, needed) from error


def _is_silent(error: Exception, folder: Path) -> bool:
    """Whether a library failed on a full disk without saying so, as numpy does."""
    if isinstance(error, AllocateError):
        return False
    return folder.is_dir() and shutil.disk_usage(folder).free < LEAST


def full(
    folder: Path,
    what: str,
    needed: float | None = None,
    remedy: str = "free some, and give the same command again",
) -> FullError:
    """That a disk is full, in one sentence.

    >>> from pathlib import Path
    >>> str(full(Path("/data"), "a.csv", 2e6, "free some"))
    'the disk of /data is full: a.csv takes 2 MB: free some'
    """
    takes = "does not fit" if needed is None else f"takes {in_bytes(needed)}"
    return FullError(f"the disk of {folder} is full: {what} {takes}: {remedy}")


def _full_disk(error: BaseException) -> str:
    """The disk that is full, by what is known of it."""
    named = getattr(error, "filename", None)
    if named is not None:
        return f"the disk of {Path(named).parent}"
    places = (cache_home(), data_home(), Path(tempfile.gettempdir()), Path.cwd())
    here = dict.fromkeys(each for each in places if each.is_dir())
    short = [str(x) for x in here if shutil.disk_usage(x).free < LEAST]
    return f"the disk of {' and of '.join(short)}" if short else "a disk"


def machine_fault(error: BaseException) -> str | None:
    """What the machine lacks, in a sentence; None: something else is wrong.

    For what is raised where nobody knew of which file, or for what.
    """
    if is_out_of_memory(error):
        return (
            f"there is not enough memory ({reason(error)}): end what else runs here, "
            "or take a smaller model, a lower --cache-memory or a device with more; "
            "all that is finished is kept"
        )
    if is_full(error):
        return (
            f"{_full_disk(error)} is full: free some, and give the same command again; "
            "all that is finished is kept"
        )
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else "a file or disk failed: "
        return f"{where}{error.strerror}"
    return None
