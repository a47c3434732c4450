"""The small JSON files of a model folder, each of which holds an object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from allocator.core import bounded
from allocator.core.errors import ModelError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# bytes of a file; the words of the largest tokenizers take 35 MB
LARGEST = 2**27


def is_there(file: Path) -> bool:
    """Whether a folder has a file of this name.

    Raises:
        ModelError: what has the name cannot be read as a file. Passed over, a link that
            leads nowhere would change what a model is asked.
    """
    if not os.path.lexists(file):
        return False
    if file.is_file():
        return True
    lost = file.is_symlink() and not file.exists()
    raise ModelError(
        f"{file} is {'a link that leads to no file' if lost else 'no file'}: take it "
        "away, or copy the file that belongs there"
    )


def read_json(file: Path, pairs: Callable[[Any], Any] | None = None) -> Any:
    """What a file holds; a byte order mark before it counts for nothing.

    Args:
        file: the file.
        pairs: makes an object of its members; None: a dictionary.

    Raises:
        ModelError: it cannot be read, or is not JSON.
    """
    try:
        return bounded.read_json(file, LARGEST, pairs)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else first_line(error)
        raise ModelError(f"{file} cannot be read as JSON: {said}") from error
