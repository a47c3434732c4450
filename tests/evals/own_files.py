"""Files of a user's own, a few small pictures each."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from allocator.core.errors import AllocateError
from allocator.core.own import Wishes
from evals.tasks.own import PLUGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

COUNT = 60
Rows = list[dict[str, Any]]


@cache
def picture(number: int) -> bytes:
    """A PNG file, another one for each number."""
    kept = io.BytesIO()
    Image.new("RGB", (2, 2), (number % 256, number // 256, 7)).save(kept, "PNG")
    return kept.getvalue()


def write_pictures(folder: Path, count: int = COUNT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = folder / f"{number}.png"
        if not file.exists():
            file.write_bytes(picture(number))


def rows(count: int = COUNT, **more: Any) -> Rows:
    """Rows with a picture, a question and an answer each."""
    return [
        {
            "image": f"{number}.png",
            "question": f"what is {number}?",
            "answer": f"thing {number}",
            **more,
        }
        for number in range(count)
    ]


def lines(entries: Iterable[Any]) -> str:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries)


def separated(entries: Sequence[Mapping[str, Any]], separator: str = ",") -> str:
    kept = io.StringIO()
    writer = csv.DictWriter(kept, list(entries[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(entries)
    return kept.getvalue()


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """A file in a folder with pictures."""
    write_pictures(folder)
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else str(file).encode()


def digests(files: Iterable[Path]) -> dict[Path, str]:
    return {file: hashlib.sha256(_content(file)).hexdigest() for file in files}


def opened(data: Path, **wishes: Any) -> Any:
    """The task of a file, pictures within it kept beside it."""
    folder = data if data.is_dir() else data.parent
    return PLUGIN.opened(data, Wishes(folder / "cache", **wishes), digests)


def changed(row: int, **cells: Any) -> list[dict[str, Any]]:
    """Rows of which one, from 1, has other cells."""
    found = rows()
    found[row - 1] = {**found[row - 1], **cells}
    return found


def sentence(data: Path, **wishes: Any) -> str:
    """What is said where a file is refused: one line."""
    with pytest.raises(AllocateError) as caught:
        opened(data, **wishes)
    said = str(caught.value)
    assert "\n" not in said
    return said
