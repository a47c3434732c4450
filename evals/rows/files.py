"""Rows of a user's file: .jsonl, .json, .csv, .tsv or .parquet, in UTF-8.

Every row knows its number as a person counts it. Of .jsonl it is the line, from 1; of
.csv and .tsv the row that a spreadsheet shows, where the header is row 1; of .json and
.parquet the entry, from 1.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, in_one_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

# a file of this name in a folder is meant where the folder is given
STEM = "samples"
# of a cell, in a sentence
LONGEST_SHOWN = 60
# what stands for bytes that are no UTF-8, and halves of characters from JSON escapes
HALVES = range(0xD800, 0xE000)
WIDE = (b"\xff\xfe", b"\xfe\xff")
# characters of a line or a cell: a picture of 48 MB in base64
LONGEST = 2**26
# bytes of memory that all rows of a file may take
HEAVIEST = 3 * 2**29
BESIDE = "lay its pictures beside it, and name them in it"


class Written(str):
    """A number as it is written in a file; `str` of it is just that."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Row:
    """What one row has in each column; a column that it lacks is not there."""

    number: int
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of one file, in its order.

    A cell is None, a text, a `Written` number, a truth value, a NaN, a list or mapping
    of such, or bytes (of .parquet). `unit` is what a row is called; `texts` says that
    cells can be nothing but texts, and an empty one is None.
    """

    file: Path
    unit: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    texts: bool = False

    def place(self, number: int, column: str | None = None) -> str:
        """A row, and a column of it, as sentences name them."""
        return place(self.file, self.unit, number, column)


def place(file: Path, unit: str, number: int, column: str | None = None) -> str:
    """A row of a file, and a column of it, as sentences name them."""
    where = f"{unit} {number} of {file.name}"
    return where if column is None else f"column {column!r} in {where}"


def shown(value: Any) -> str:
    """A cell as a sentence shows it."""
    if value is None:
        return "nothing"
    text = value if isinstance(value, Written) else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."


def found_file(data: Path, readers: Iterable[str]) -> Path:
    """The file that a path means: itself, or `samples.*` of a folder.

    Args:
        data: a file, or a folder that holds one.
        readers: endings that can be read, such as ".csv".

    Raises:
        DataError: there is none, or several, or one of another ending.
    """
    endings = ", ".join(sorted(readers))
    file = data
    if os.path.isdir(data):
        with in_one_sentence(f"{data} cannot be read", DataError):
            own = [each for each in data.iterdir() if each.stem.lower() == STEM]
        names = sorted(each.name for each in own if each.suffix.lower() in readers)
        if len(names) != 1:
            what = f"{' and '.join(names)}" if names else f"no {STEM}.* ({endings})"
            raise DataError(f"the folder {data} has {what}: name one file")
        file = data / names[0]
    if not os.path.isfile(file):
        raise DataError(f"there is no file {file}")
    if file.suffix.lower() not in readers:
        raise DataError(f"{file.name} is of no kind that can be read: {endings}")
    return file


def decoded_lines(file: Path) -> Iterator[str]:
    """Lines of a text in UTF-8, with their ends; a byte of no character stays a mark.

    Raises:
        DataError: it cannot be read, or is UTF-16 altogether.
    """
    with in_one_sentence(f"{file} cannot be read", DataError):
        with file.open("rb") as opened:
            if opened.read(2) in WIDE:
                raise DataError(f"{file.name} is in UTF-16 or UTF-32: save it as UTF-8")
        with file.open(
            encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as opened:
            lines = iter(partial(opened.readline, LONGEST + 1), "")
            for number, line in enumerate(lines, 1):
                if len(line) > LONGEST:
                    where = place(file, "line", number)
                    raise DataError(
                        f"{where} has more than {LONGEST:,} characters: {BESIDE}"
                    )
                yield line


def weighed(file: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows, as long as memory holds all of them.

    Raises:
        DataError: they would take more than `HEAVIEST` bytes.
    """
    total = 0
    for row in rows:
        total += _size(row.cells)
        if total > HEAVIEST:
            raise DataError(
                f"{file.name} has rows of more than {HEAVIEST / 2**30:g} GiB: {BESIDE}"
            )
        yield row


def _size(value: Any) -> int:
    """Bytes that a value and all within it take."""
    within: Iterable[Any] = ()
    if isinstance(value, dict):
        within = value.values()
    elif isinstance(value, list):
        within = value
    return sys.getsizeof(value) + sum(map(_size, within))


def has_halves(value: Any) -> bool:
    """Whether a text, or one within a list or mapping, is no UTF-8."""
    if isinstance(value, str):
        # an encoder is quicker than a look at each character
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    if isinstance(value, dict):
        return any(map(has_halves, (*value, *value.values())))
    return isinstance(value, list) and any(map(has_halves, value))


def check_texts(where: Callable[[str | None], str], cells: Mapping[str, Any]) -> None:
    """Refuse cells that hold what is no character.

    Args:
        where: names the row, and a column of it.
        cells: of the row, by column.

    Raises:
        DataError: names row and column.
    """
    for column, value in cells.items():
        if has_halves(column):
            raise DataError(f"{where(None)} is not in UTF-8")
        if has_halves(value):
            raise DataError(
                f"{where(column)} is not in UTF-8, or has half a character (a lone "
                "surrogate)"
            )
        if isinstance(value, str) and "\0" in value:
            raise DataError(f"{where(column)} has a NUL byte")
