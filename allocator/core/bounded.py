"""Files, texts and packed values within bounds, so that none can fill the memory.

Whatever comes from outside may be longer than it looks: a sparse file, a device that
never ends, a value that unpacks to a thousand times its size. Each reader names the
most that anybody needs of its kind, and what is more is refused before it is read.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# bytes of a file of settings: a plan of 100,000 linears has a third of that
LARGEST = 2**25
# bytes that what a text of JSON says may take in memory, and of a packed value
HEAVIEST, LARGEST_UNPACKED = 2**30, 2**28
# What CPython 3.11 takes at most for what begins at a character, in bytes: an object, a
# list, one more member of either (as a pair, while its object is made), half a text.
WEIGHTS = {"{": 240, "[": 90, ",": 160, '"': 32}
DEEP = "it is nested too deeply"


class BoundError(ValueError):
    """Something that is larger than anything of its kind; says how large it may be."""


def read_bytes(file: Path, largest: int = LARGEST) -> bytes:
    """The content of a file, or of a device or pipe with an end.

    Raises:
        BoundError: it has more bytes than `largest`.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        about = os.fstat(opened.fileno())
        size = about.st_size if stat.S_ISREG(about.st_mode) else largest
        _check_size(size, largest)
        found = opened.read(size + 1)
    _check_size(len(found), largest)
    return found


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise BoundError(f"it has more than {largest:,} bytes, the most that is read")


def read_text(file: Path, largest: int = LARGEST) -> str:
    """The text of a file in UTF-8; a byte order mark before it counts for nothing.

    Raises:
        BoundError: as `read_bytes`.
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    return read_bytes(file, largest).decode("utf-8-sig")


def read_json(
    file: Path, largest: int = LARGEST, pairs: Callable[[Any], Any] | None = None
) -> Any:
    """What a file of JSON holds; `pairs` makes an object of its members.

    Raises:
        ValueError: it is not JSON, nested too deeply, or larger than `largest` bytes or
            `HEAVIEST` in memory.
        OSError: it cannot be read.
    """
    return parse_json(read_text(file, largest), object_pairs_hook=pairs)


def parse_json(text: str, **hooks: Any) -> Any:
    """What a text of JSON says; `hooks` are those of `json.loads`.

    Raises:
        ValueError: as `read_json`.
    """
    check_weight(text)
    try:
        return json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(DEEP) from None


def leaves(name: str) -> bool:
    """Whether a name that a file gives leads out of the folder that it is of.

    Links that lie in the folder are followed: who put them there can read what they
    lead to. What a file says is somebody else's word.

    >>> leaves("../secret"), leaves("/etc/passwd"), leaves("photos/1..2.jpg")
    (True, True, False)
    """
    parts = name.replace("\\", "/").split("/")
    return os.path.isabs(name) or ".." in parts or "\0" in name


def check_weight(text: str, before: int = 0) -> int:
    """Bytes that what a text of JSON says may take, and what came before it.

    Raises:
        BoundError: that is more than `HEAVIEST`.
    """
    own = sum(bytes_ * text.count(each) for each, bytes_ in WEIGHTS.items())
    own += sys.getsizeof(text)
    if before + own > HEAVIEST:
        raise BoundError(
            f"what it says may take more than {HEAVIEST / 2**30:g} GiB of memory"
        )
    return before + own


def check_safetensors(file: Path, largest: int = LARGEST) -> int:
    """Bytes of a safetensors file's header, which its first eight bytes tell.

    Raises:
        BoundError: that is more than `largest`, or than the file has.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        told, size = opened.read(8), os.fstat(opened.fileno()).st_size
    length = int.from_bytes(told, "little")
    if len(told) < 8 or length > size - 8:
        raise BoundError("its header is cut short")
    if length > largest:
        raise BoundError(
            f"its header has {length:,} bytes, and at most {largest:,} are read"
        )
    return length


def unpacked(packed: bytes, largest: int = LARGEST_UNPACKED) -> bytes:
    """What zlib has packed.

    Raises:
        BoundError: it has more bytes than `largest`.
        ValueError: it is damaged, or cut short.
    """
    opened = zlib.decompressobj()
    try:
        found = opened.decompress(packed, largest + 1)
    except zlib.error as error:
        raise ValueError(f"it cannot be unpacked: {error}") from None
    _check_size(len(found), largest)
    if not opened.eof or opened.unused_data:
        raise ValueError("it cannot be unpacked: it does not end where it should")
    return found
