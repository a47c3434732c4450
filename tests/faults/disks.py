"""Small disks, to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILLED = "filled"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes; skips the test where none may be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(disk: Path, left: int) -> None:
    """Fill a disk up to some bytes."""
    free = shutil.disk_usage(disk).free
    (disk / FILLED).write_bytes(bytes(max(0, free - left)))


def empty(disk: Path) -> None:
    """Make room again."""
    (disk / FILLED).unlink()


def names(folder: Path) -> set[str]:
    """All there is below a folder, but what fills the disk and locks."""
    found = {str(file.relative_to(folder)) for file in folder.rglob("*")}
    return {name for name in found if name != FILLED}
