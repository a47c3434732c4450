"""A CSV file of measurements: which columns hold bits, and what its cells say."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from allocator.space.bit_columns import group_columns, width
from allocator.space.notation import PLAIN, Notation, percent

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
# characters that a header is looked for in
HEAD = 200_000


@dataclass(frozen=True)
class CsvFile:
    """The cells of a file as they are written, with the number of each row's line.

    `keys` are the columns that hold the bits of a group, in the order of the file, and
    `notes` sentences about what was taken for what.
    """

    path: Path
    header: tuple[str, ...]
    lines: tuple[tuple[int, tuple[str, ...]], ...]
    keys: tuple[str, ...] = ()
    notation: Notation = PLAIN
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        at = self.header.index(name)
        return [cells[at] for _, cells in self.lines]

    def cell(self, row: int, name: str) -> str:
        """One cell; rows count from 0."""
        return self.lines[row][1][self.header.index(name)]

    def values(self, name: str) -> list[float]:
        """A column as numbers, NaN where a cell is none."""
        return [self.notation.number(cell) for cell in self.column(name)]

    def sizes(self, name: str) -> list[float]:
        """A column of bits per weight: finite numbers above 0.

        Raises:
            DataError: a cell is none; names its line.
        """
        found = self.values(name)
        for at, value in enumerate(found):
            if not value > 0:
                told = self.notation.not_a("positive number", self.cell(at, name))
                line = self.lines[at][0]
                raise DataError(f"{self.path}, line {line}: {name} {told}")
        return found

    def scores(self, name: str) -> list[float]:
        """A column of scores, all of them read.

        Raises:
            DataError: see `Scores`.
        """
        reader = Scores(str(self.path), name, self.notation)
        cells = zip(self.lines, self.column(name), strict=True)
        return [reader.read(cell, line) for (line, _), cell in cells]

    @property
    def bits(self) -> list[tuple[int | float, ...]]:
        """The widths of every row, in the order of `keys`."""
        columns = [[width(value) or 0 for value in self.values(k)] for k in self.keys]
        return list(zip(*columns, strict=True))


class Scores:
    """Reads scores cell by cell; all have a percent sign or none."""

    def __init__(self, file: str, name: str, notation: Notation) -> None:
        self.file = file
        self.name = name
        self.notation = notation
        self.percent: bool | None = None

    def read(self, cell: str, line: int) -> float:
        """A score, in percent where it says so.

        Raises:
            DataError: a cell that holds no finite number, or one with a percent sign
                where others have none; names the line.
        """
        text, signed = percent(cell)
        value = self.notation.number(text)
        where = f"{self.file}, line {line}: the score "
        if math.isnan(value):
            raise DataError(where + self.notation.not_a("finite number", cell))
        if self.percent not in (None, signed):
            raise DataError(
                f"{where}{cell!r} is {'' if signed else 'not '}in percent, others of "
                f"{self.name} are{' not' if signed else ''}"
            )
        self.percent = signed
        return value


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
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no table {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
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
