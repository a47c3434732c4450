"""How much memory there is, what this process may take of it, and what it takes.

What counts is what a container's limit counts and the kernel cannot drop: anonymous
and shared pages. Pages of mapped files (checkpoints, banks, activations on the disk) go
when somebody needs them, and are left out. A limit belongs to a process, as the
kernel's own do: whoever reads a request sets it, once.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.core.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# files of a group of processes, of the second kind of groups and of the first: its
# limit, what it takes, and the name of what only caches files among that
SECOND = ("memory.max", "memory.current", "file")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
# of what may be taken, from where on nothing more is kept for later
NEARLY = 0.9
# seconds between two times that memory is given back
BETWEEN = 1.0


@dataclass
class Allowed:
    """What a process may take.

    Attributes:
        limit: bytes in all; None: whatever the machine has.
        reserved: bytes of what is there all the time, such as libraries and a model.
        since: memory was given back; None: it was not yet.
    """

    limit: int | None = None
    reserved: int = 0
    since: Clock | None = None


_ALLOWED = Allowed()


def allow(limit: int | None, reserved: int = 0) -> None:
    """Set what this process may take, and what of it is taken all the time.

    A container's limit is one too, without being asked for.
    """
    limits = [each for each in (limit, machine_bytes()) if each]
    limited = min(limits) < _physical()
    _ALLOWED.limit = min(limits) if limited else None
    _ALLOWED.reserved = reserved


def host_bytes() -> int:
    """Bytes of memory that this process may take.

    Those it was allowed; else all of the machine's, or of the container that it is in.
    """
    limit = _ALLOWED.limit
    return machine_bytes() if limit is None else limit


def machine_bytes() -> int:
    """Bytes of this machine's memory, or of the container that this process is in."""
    limits = [_physical()]
    for folder, (most, _, _) in groups():
        # without a limit it holds a word, or a number beyond all memory
        with suppress(OSError, ValueError):
            limits.append(int((folder / most).read_text()))
    return min(limits)


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def spare_bytes() -> int:
    """Bytes that are left beside what is there all the time: for batches and caches."""
    return max(0, host_bytes() - _ALLOWED.reserved)


def share(of_spare: float, most: int) -> int:
    """A share of what is left where memory is limited, and no more than is of use."""
    if _ALLOWED.limit is None:
        return most
    return min(most, int(of_spare * spare_bytes()))


def groups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folders of the groups of processes that this one is in, and names of their files.

    Each group's limit holds for those in it as well. In a container that sees its own
    group as the outermost one, the path is another, and that one is there.
    """
    with suppress(OSError):
        for line in (PROC / "self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number != "0" and "memory" not in controllers.split(","):
                continue
            files = SECOND if number == "0" else FIRST
            roots = [CGROUPS, CGROUPS / "unified"] if number == "0" else []
            for root in roots or [CGROUPS / "memory"]:
                within = Path(path.lstrip("/"))
                yield from ((root / each, files) for each in (within, *within.parents))


def taken_bytes() -> int:
    """Bytes that this process takes and nobody can drop; 0 where nobody tells."""
    taken = 0
    with suppress(OSError):
        for line in (PROC / "self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssShmem"):
                taken += 1024 * int(value.split()[0])
    return taken


def free_bytes() -> int:
    """Bytes that this process may take beside what it takes already.

    As far as the machine, its containers and what was allowed let it.
    """
    # where nobody tells, everything fits
    found = [sys.maxsize]
    with suppress(OSError, ValueError, StopIteration):
        lines = (PROC / "meminfo").read_text().splitlines()
        told = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024 * int(told.split()[1]))
    for folder, (most, current, cached) in groups():
        with suppress(OSError, ValueError, KeyError):
            limit = int((folder / most).read_text())
            lines = (folder / "memory.stat").read_text().splitlines()
            stat = dict(line.split() for line in lines)
            # what only caches files gives way
            used = int((folder / current).read_text()) - int(stat[cached])
            found.append(limit - used)
    if _ALLOWED.limit is not None:
        found.append(_ALLOWED.limit - taken_bytes())
    return max(0, min(found))


def has_room(size: int) -> bool:
    """Whether so many bytes may be kept for later: that leaves work some room.

    Where no limit was set, they may. Otherwise what nobody uses any more is given back
    before the answer is no.
    """
    if _ALLOWED.limit is None:
        return True
    most = NEARLY * host_bytes() - size
    if taken_bytes() <= most:
        return True
    if _ALLOWED.since is None or _ALLOWED.since.seconds > BETWEEN:
        give_back()
        _ALLOWED.since = Clock()
    return taken_bytes() <= most


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
