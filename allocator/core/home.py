"""Where things are kept: XDG folders, and the two storages built on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from allocator.core.errors import SpecError


def _folder(variable: str, default: str) -> Path:
    base = os.environ.get(variable)
    # the XDG specification ignores relative paths
    if base and Path(base).is_absolute():
        return Path(base) / "allocate"
    return Path.home() / default / "allocate"


def data_home() -> Path:
    """Studies and what belongs to them."""
    return _folder("XDG_DATA_HOME", ".local/share")


def cache_home() -> Path:
    """Banks and the drawn world: everything that can be made again."""
    return _folder("XDG_CACHE_HOME", ".cache")


def default_storage() -> str:
    """URL of the study database used where no other is named."""
    return f"sqlite:///{data_home() / 'studies.db'}"


def named_file(given: Any, wanted: str = "the name of a file") -> Path:
    """A file by its name.

    Raises:
        SpecError: what is no name.
    """
    if not isinstance(given, str | os.PathLike):
        raise SpecError(f"{given!r} is not {wanted}")
    return Path(given)
