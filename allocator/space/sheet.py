"""The cells of a table as they are written, and what they say."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from allocator.space.notation import PLAIN, Notation, percent

if TYPE_CHECKING:
    from pathlib import Path

# more bits than any number has: the size of a whole
LARGEST = 64
# sizes in bytes serve as well; what is beyond them cannot be reckoned with
LARGEST_SIZE = 1e15
# what programs write for a measurement that came to nothing
FAILED = re.compile("[+\N{MINUS SIGN}-]?(nan|inf|infinity|\N{INFINITY})", re.IGNORECASE)


def width(value: float) -> int | float | None:
    """A width as a number: whole where it is; None for what is none.

    >>> width(4.0), width(1.58), width(0.0)
    (4, 1.58, None)
    """
    if not 0 < value <= LARGEST:
        return None
    return int(value) if value == int(value) else value


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
        """A column of bits per weight: numbers above 0, up to 1e15.

        Raises:
            DataError: a cell is none; names its line.
        """
        found = self.values(name)
        for at, value in enumerate(found):
            if not 0 < value <= LARGEST_SIZE:
                told = self.notation.not_a("positive number", self.cell(at, name))
                line = self.lines[at][0]
                raise DataError(f"{self.path}, line {line}: {name} {told}")
        return found

    def scores(self, name: str) -> list[float]:
        """A column of scores, all of them read; NaN for a measurement that failed.

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
        """A score, in percent where it says so; NaN for what is written as nan or inf.

        Raises:
            DataError: a cell that holds no number, or one with a percent sign where
                others have none; names the line.
        """
        text, signed = percent(cell)
        if FAILED.fullmatch(text.strip()):
            return math.nan
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
