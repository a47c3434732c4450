"""One drawn world for all tests: it takes seconds to draw and nothing changes it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from typing import TYPE_CHECKING

import pytest

from evals.world.files import ensure_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder of this run, the same in each of its processes."""
    base = factory.getbasetemp()
    # each process has a folder of its own in that of the run
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def shared_world(folder: Path) -> Path:
    """The world in a folder, drawn by whoever asks first while the others wait."""
    with (folder / "world.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        return ensure_world(folder / "world")


def lend(world: Path, cache: Path) -> None:
    """Let a cache have the world as if it had been drawn there."""
    (cache / "allocate").mkdir(parents=True)
    (cache / "allocate" / world.name).symlink_to(world, target_is_directory=True)


@contextmanager
def homes(folder: Path, world: Path) -> Iterator[None]:
    """Homes in a folder, with the world in the cache."""
    lend(world, folder / "cache-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data-home"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache-home"))
        yield
