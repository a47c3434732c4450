"""How much memory there is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# where Linux keeps the bytes that a container may have, of its second and first kind
LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def host_bytes() -> int:
    """Bytes of this machine's memory, or of the container that this process is in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in LIMITS:
        # without a limit it holds a word, or a number beyond all memory
        with suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return min(limits)
