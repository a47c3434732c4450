"""Allocations that other tools wrote: a file for each tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.bench.imported._file import contents
from allocator.core.errors import SpecError
from allocator.core.plugins import available, load

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.bench.imported._said import Reader, Said


def said_in(file: Path) -> Said:
    """What a file of another tool says, by whatever reader knows its content.

    Raises:
        SpecError: it cannot be read, no reader knows it, or it lacks or misspells a
            part.
    """
    data = contents(file)
    readers: list[Reader] = [load(__name__, name) for name in available(__name__)]
    for reader in readers:
        try:
            if reader.knows(data):
                return reader.said(data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SpecError(f"{file} is not {reader.description}: {error}") from None
    known = "; ".join(reader.description for reader in readers)
    raise SpecError(
        f"{file} holds no allocation that is known here: neither a plan of `allocate` "
        f"nor {known}"
    )
