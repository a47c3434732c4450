"""Files that appear whole or not at all, under a lock, with a checksum."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that add to the same bank waiting; ends with the process."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def checksum(parts: Mapping[str, Tensor]) -> str:
    """Digest of a cell's tensors, their names, types and shapes included."""
    total = hashlib.sha256()
    for name in sorted(parts):
        part = parts[name]
        total.update(f"{name} {part.dtype} {tuple(part.shape)};".encode())
        total.update(part.contiguous().numpy().tobytes())
    return total.hexdigest()[:32]


def replace_file(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there: whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=file.parent)
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        draft.chmod(0o644)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
