"""Which process is at work on a trial, and whether it still runs."""

from __future__ import annotations

import os
import socket


def this_process() -> str:
    """This process, among those of all machines."""
    return f"{socket.gethostname()}:{os.getpid()}"


def alive(owner: str) -> bool:
    """Whether the process that owns a trial may still run; another machine's may."""
    host, _, pid = owner.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return bool(host)
    # in a container the next process often gets the number of the last
    return int(pid) != os.getpid() and _runs(int(pid))


def _runs(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
