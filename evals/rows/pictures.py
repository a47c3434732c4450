"""Pictures of rows: files beside a user's file, or within it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from typing import TYPE_CHECKING, Any

from allocator.core.drafts import draft_file
from allocator.core.errors import DataError, FullError
from allocator.core.full import naming_the_disk
from evals.rows.files import Written, shown

if TYPE_CHECKING:
    from pathlib import Path

    from evals.rows.values import Cell

# how files of pictures begin, and the ending they get; TIFF has two
KINDS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ".png"),
    (re.compile(rb"\xff\xd8\xff"), ".jpg"),
    (re.compile(rb"RIFF....WEBP", re.S), ".webp"),
    (re.compile(rb"GIF8[79]a"), ".gif"),
    (re.compile(rb"BM", re.S), ".bmp"),
    (re.compile(rb"II\*\0|MM\0\*"), ".tif"),
)
KNOWN = "PNG, JPEG, WebP, GIF, BMP or TIFF"
# what their first bytes are in base64, and the alphabet; so long is no name of a file
BEGINNING = "iVBORw0KGg|/9j/|UklGR|R0lGOD|Qk|SUkq|TU0A"
BASE64 = re.compile(rf"(?:{BEGINNING})[A-Za-z0-9+/=\s]{{50,}}")
INLINE = re.compile(r"data:[^,]*,", re.I)
# no system takes a longer path, and a picture in base64 may be megabytes
LONGEST_PATH = 4096
ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def picture_of(cell: Cell, folder: Path, cache: Path, *, lenient: bool = False) -> Path:
    """The file of a row's picture.

    A cell is a path, from the user's file on or from the root; the picture itself in
    base64, with or without "data:image/png;base64," before it; or, as data sets of
    Hugging Face have it, an object with `bytes` or `path`. A list has to hold just one.

    Args:
        cell: what the row has.
        folder: where the user's file lies.
        cache: folder for pictures that it holds within itself, by their content.
        lenient: a file may be missing.

    Raises:
        DataError: there is none, it is missing, damaged or elsewhere; names the row.
    """
    value = cell.value
    if isinstance(value, list):
        if len(value) != 1:
            raise cell.refused(f"has {len(value)} pictures: a sample has one")
        value = value[0]
    if isinstance(value, dict):
        value = _within(cell, value)
    if isinstance(value, bytes):
        return _kept(cell, value, cache)
    if not isinstance(value, str) or isinstance(value, Written) or not value.strip():
        raise cell.refused(
            f"has {shown(value)} for a picture: it is a path, or the picture in base64"
        )
    text = value.strip()
    found = _of_text(cell, text, folder, cache)
    if found is None and not lenient:
        raise cell.refused(f"is missing: expected {shown(text)} in the folder {folder}")
    return found or folder / text


def _of_text(cell: Cell, text: str, folder: Path, cache: Path) -> Path | None:
    head = INLINE.match(text)
    if head:
        if not head[0].lower().endswith(";base64,"):
            raise cell.refused(f"has data that are not in base64 ({shown(head[0])})")
        return _kept(cell, _decoded(cell, text[head.end() :]), cache)
    if ELSEWHERE.match(text):
        raise cell.refused(f"is {shown(text)}: fetch it, and name the file instead")
    found = _existing(folder, text)
    if found is not None:
        if not os.access(found, os.R_OK):
            raise cell.refused(f"is {shown(text)}, which may not be read")
        return found
    if BASE64.match(text):
        return _kept(cell, _decoded(cell, text), cache)
    if len(text) > LONGEST_PATH:
        raise cell.refused(f"is no path, and no picture in base64: {shown(text)}")
    return None


def _existing(folder: Path, text: str) -> Path | None:
    """The file of a path, whatever system it was written on; None without one."""
    if len(text) > LONGEST_PATH:
        return None
    for name in dict.fromkeys((text, text.replace("\\", "/"))):
        file = folder / name
        # unlike `Path`, it refuses no name
        if os.path.isfile(file):
            return file
    return None


def _within(cell: Cell, value: dict[str, Any]) -> Any:
    if value.get("bytes"):
        held = value["bytes"]
        return _decoded(cell, held) if isinstance(held, str) else held
    if value.get("path"):
        return value["path"]
    raise cell.refused("has an object without a picture: its `bytes` or its `path`")


def _decoded(cell: Cell, text: str) -> bytes:
    # altogether at once is quicker than a look at each cell before
    plain = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        raise cell.refused("has a picture in damaged or truncated base64") from None


def _kept(cell: Cell, content: bytes, cache: Path) -> Path:
    """The file of a picture, written if it is not there: whole or not at all."""
    ending = next((end for start, end in KINDS if start.match(content)), None)
    if ending is None:
        raise cell.refused(f"has bytes of no picture that is known ({KNOWN})")
    name = hashlib.sha256(content).hexdigest()[:32]
    file = cache / f"{name}{ending}"
    if file.exists() and file.stat().st_size == len(content):
        return file
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (
            naming_the_disk(cache, "a picture within a row", len(content)),
            draft_file(cache) as draft,
        ):
            draft.write_bytes(content)
            draft.replace(file)
    except FullError:
        raise
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}") from None
    return file
