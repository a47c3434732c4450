"""Checksums of an export's files, beside them: SHA256SUMS, as `sha256sum -c` reads it.

safetensors finds a file that is cut short, but no changed weight, and a configuration
that somebody edits is only another configuration.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from allocator.core.bounded import leaves, read_text
from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from allocator.bench.contents import Contents

SUMS = "SHA256SUMS"
# a digest, and a name with the mark of how it was read before it
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write_sums(folder: Path) -> None:
    """Write the checksums of all files in a folder and below it."""
    lines = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            lines.append(f"{digest}  {file.relative_to(folder).as_posix()}\n")
    (folder / SUMS).write_text("".join(lines))


def check_sums(folder: Path, files: Iterable[Path], contents: Contents) -> None:
    """Refuse files that are others than those that were exported.

    A folder without checksums passes: it may be somebody else's.

    Args:
        folder: with `SUMS`, or without.
        files: all that decides what its model replies.
        contents: reads them.

    Raises:
        ModelError: names a file that is missing, changed or new.
    """
    if not (folder / SUMS).is_file():
        return
    said = {folder / name: digest for name, digest in _read(folder / SUMS).items()}
    way = f"copy it again, or take {SUMS} away to score what is there"
    new = [file for file in files if file not in said]
    if new:
        raise ModelError(f"{new[0]} is not among the files in {SUMS}: {way}")
    gone = [file for file in said if not file.is_file()]
    if gone:
        raise ModelError(f"{folder} lacks {gone[0].name}, which {SUMS} lists: {way}")
    held = contents.of(said, "checkpoint")
    for file, digest in said.items():
        if not digest.startswith(held[file]):
            raise ModelError(f"{file} is not what {SUMS} says: {way}")


def _read(file: Path) -> Mapping[str, str]:
    """Digests by name.

    Raises:
        ModelError: it is no such file.
    """
    try:
        lines = read_text(file).splitlines()
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from None
    found = [LINE.fullmatch(line) for line in lines]
    if not found or not all(found):
        raise ModelError(f"{file} holds no checksums: copy it again, or take it away")
    sums = {each[2]: each[1] for each in found if each}
    elsewhere = next((name for name in sums if leaves(name)), None)
    if elsewhere is not None:
        raise ModelError(f"{file} lists {elsewhere!r}, which is no file below it")
    return sums
