"""A table of measurements read from a CSV file, however it is written."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.core.bounded import HEAVIEST, BoundError, read_bytes
from allocator.core.errors import DataError
from allocator.space.bit_columns import group_columns
from allocator.space.notation import Notation
from allocator.space.sheet import CsvFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    Lines = list[tuple[int, tuple[str, ...]]]

# the usual name of the bits per weight of a row: never those of a group
SIZE = "bpw"
# what stands between cells: the first by which the header has the columns asked for
DELIMITERS = ",;\t|"
# the line by which spreadsheets say it themselves
SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)
# Bytes of a file, and what a row and a cell take at most in memory: there may be a
# million rows of a dozen groups.
LARGEST, ROW, CELL = 2**26, 150, 60
# characters that a header is looked for in
HEAD = 200_000


def read_csv(path: Path, named: Sequence[str], bits: str | None = None) -> CsvFile:
    """Read a table of measurements.

    Cells stand between commas, semicolons, tabs or bars, numbers have decimal points or
    commas, and the text is UTF-8 or UTF-16.

    Args:
        path: a CSV file whose first line names the columns.
        named: columns that must be there and are no groups: score, bits per weight.
        bits: names or patterns of the columns that hold bits, `vit_*,llm_*`. None takes
            the columns named `*_bits`, but for averages and what holds no numbers,
            which `notes` tell.

    Raises:
        DataError: no such file, not a table, no rows, no such column, no bit columns, a
            cell of one that is no width, a pattern that matches nothing, or columns of
            widths that are not named `*_bits`, so that it cannot be told which are
            groups.
    """
    text = _text(path)
    header, lines, delimiter = _cells(path, text, named)
    for name in named:
        if name not in header:
            raise DataError(
                f"{path} has no column {name!r}; it has {', '.join(header)}"
            )
    if not lines:
        raise DataError(f"{path} has no rows below its header")
    sheet = CsvFile(path, tuple(header), tuple(lines))
    # scores are not looked at before they are read
    others = [at for at, name in enumerate(header) if name != named[0]]
    if delimiter != "," or '"' in text:
        cells = (row[at] for _, row in lines for at in others)
        sheet = replace(sheet, notation=Notation.of(cells, delimiter))
    names = [name for name in header if name and name not in (*named, SIZE)]
    keys, notes = group_columns(sheet, names, bits)
    return replace(sheet, keys=tuple(keys), notes=tuple(notes))


def _text(path: Path) -> str:
    try:
        raw = read_bytes(path, LARGEST)
    except FileNotFoundError:
        raise DataError(f"no table {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except BoundError as error:
        raise DataError(f"{path} is no table: {error}") from None
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a CSV file in UTF-8 or UTF-16: {error.reason} at byte "
            f"{error.start}"
        ) from None
    if "\0" in text:
        raise DataError(f"{path} is not a CSV file: it holds bytes that are no text")
    weight = ROW * text.count("\n") + CELL * sum(map(text.count, DELIMITERS))
    if weight > HEAVIEST:
        raise DataError(f"{path} has more rows and columns than memory should hold")
    return text


def _cells(path: Path, text: str, named: Sequence[str]) -> tuple[list[str], Lines, str]:
    """Column names, the cells of every row with its line, and the delimiter."""
    said = SEPARATOR.fullmatch(text.split("\n", 1)[0])
    delimiter = said.group(1) if said else _delimiter(text[:HEAD], named)
    try:
        rows = _records(text, delimiter)
        found = [(line, tuple(row)) for line, row in rows if any(map(str.strip, row))]
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}") from None
    found = found[1:] if said else found
    if not found:
        raise DataError(f"{path} is empty; a table starts with a line of column names")
    header = [name.strip() for name in found[0][1]]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has several columns named {twice[0]!r}")
    for line, cells in found[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{path} is not a table: line {line} has {len(cells)} cells, "
                f"the header {len(header)}"
            )
    return header, found[1:], delimiter


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=True,
    )
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}, {error}") from None


def _delimiter(text: str, named: Sequence[str]) -> str:
    """What parts the header into the most of the columns asked for, then into most."""

    def parted(delimiter: str) -> tuple[int, int]:
        try:
            rows = (row for _, row in _records(text, delimiter))
            header = next((row for row in rows if any(map(str.strip, row))), [])
        except csv.Error:
            return 0, 0
        names = {name.strip() for name in header}
        return len(names & {*named}), len(header)

    return max(DELIMITERS, key=parted)
