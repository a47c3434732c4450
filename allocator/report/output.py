"""Files of reports, written whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.drafts import clear_drafts
from allocator.core.errors import DataError, FullError, SpecError
from quant.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def check_output(out: Path) -> None:
    """Refuse what cannot become a file.

    Raises:
        SpecError: `out` is a folder, or its folder does not exist.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise SpecError(f"{out} is not a file in a folder that exists")


def write_atomically(out: Path, made: Callable[[], bytes]) -> None:
    """Write what `made` gives to a file; a file that was there stays until then.

    Raises:
        SpecError: `out` is a folder, or its folder does not exist.
        DataError: the file cannot be written.
        FullError: the disk is full; the file is as it was.
    """
    check_output(out)
    content = made()
    try:
        clear_drafts(out.parent)
        replace_file(out, lambda draft: draft.write_bytes(content), len(content))
    except FullError:
        raise
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}") from None
