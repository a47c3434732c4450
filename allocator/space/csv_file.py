"""A CSV file of measurements: which columns hold bits, and what its cells say."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from allocator.core.allocation import WIDTHS
from allocator.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIX = "_bits"
# the usual name of the bits per weight of a row: never those of a group
SIZE = "bpw"
# columns that a refusal lists
LISTED = 4
ALLOWED = ", ".join(map(str, WIDTHS))


@dataclass(frozen=True)
class CsvFile:
    """The cells of a file as they are written, with the number of each row's line.

    `keys` are the columns that hold the bits of a group, in the order of the file.
    """

    path: Path
    header: tuple[str, ...]
    lines: tuple[tuple[int, tuple[str, ...]], ...]
    keys: tuple[str, ...]

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        at = self.header.index(name)
        return [cells[at] for _, cells in self.lines]

    def numbers(self, name: str, *, positive: bool = False) -> list[float]:
        """A column of finite numbers.

        Raises:
            DataError: a cell is none, or not above 0 where it has to be.
        """
        kind = "positive number" if positive else "finite number"
        found = []
        for (line, _), cell in zip(self.lines, self.column(name), strict=True):
            value = number(cell)
            if math.isnan(value) or (positive and value <= 0):
                raise DataError(
                    f"{self.path}, line {line}: {name} {cell!r} is not a {kind}"
                )
            found.append(value)
        return found

    @property
    def bits(self) -> list[tuple[int, ...]]:
        """The widths of every row, in the order of `keys`."""
        columns = [self.header.index(key) for key in self.keys]
        return [
            tuple(int(number(cells[at])) for at in columns) for _, cells in self.lines
        ]


def read_csv(path: Path, named: Sequence[str], bits: str | None = None) -> CsvFile:
    """Read a table of measurements.

    Args:
        path: a CSV file whose first line names the columns.
        named: columns that must be there and are no groups: score, bits per weight.
        bits: names or patterns of the columns that hold bits, `vit_*,llm_*`. None takes
            the columns named `*_bits` that hold widths in every row.

    Raises:
        DataError: no such file, not a table, no rows, no such column, no bit columns, a
            pattern that matches nothing, or columns of widths that are not named
            `*_bits`, so that it cannot be told which are groups.
    """
    header, lines = _cells(path)
    for name in named:
        if name not in header:
            raise DataError(
                f"{path} has no column {name!r}; it has {', '.join(header)}"
            )
    if not lines:
        raise DataError(f"{path} has no rows below its header")
    sheet = CsvFile(path, tuple(header), tuple(lines), ())
    others = [name for name in header if name and name not in (*named, SIZE)]
    if bits is None:
        keys = _told_by_name(sheet, others)
    else:
        keys = _matching(sheet, others, bits)
    return CsvFile(path, sheet.header, sheet.lines, tuple(keys))


def number(cell: str) -> float:
    """A finite number as written, or NaN."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _told_by_name(sheet: CsvFile, names: list[str]) -> list[str]:
    holding = [name for name in names if _stray(sheet, name) is None]
    keys = [name for name in holding if name.endswith(SUFFIX) and name != SUFFIX]
    unsure = [name for name in holding if name not in keys]
    if keys and not unsure:
        return keys
    if unsure:
        listed = ", ".join(unsure[:LISTED])
        more = f" and {len(unsure) - LISTED} more" if len(unsure) > LISTED else ""
        raise DataError(
            f"{sheet.path} holds widths in {listed}{more}, not named *{SUFFIX}: say "
            "with --bits which columns are the groups, by names or patterns such as "
            "--bits 'vit_*,llm_*'"
        )
    raise DataError(
        f"{sheet.path} has no bit columns: none named *{SUFFIX} holds {ALLOWED} in "
        "every row, nor does any other; --bits names the columns of groups"
    )


def _matching(sheet: CsvFile, names: list[str], bits: str) -> list[str]:
    """Columns that one of the patterns matches.

    Raises:
        DataError: a pattern that matches nothing, or a cell that is no width.
    """
    patterns = [each.strip() for each in bits.split(",") if each.strip()]
    found = {
        pattern: [name for name in names if fnmatchcase(name, pattern)]
        for pattern in patterns
    }
    for pattern, matched in found.items():
        if not matched:
            raise DataError(
                f"--bits {pattern!r} matches no column of {sheet.path} that could hold "
                f"bits; there are {', '.join(names) or 'none'}"
            )
    if not found:
        raise DataError(f"--bits {bits!r} names no column")
    wanted = {name for matched in found.values() for name in matched}
    keys = [name for name in names if name in wanted]
    for name in keys:
        if stray := _stray(sheet, name):
            line, cell = stray
            raise DataError(
                f"{sheet.path}, line {line}: {name} holds {cell!r}, which is not one "
                f"of the widths {ALLOWED}"
            )
    return keys


def _stray(sheet: CsvFile, name: str) -> tuple[int, str] | None:
    """The first line and cell of a column that holds no width."""
    cells = zip(sheet.lines, sheet.column(name), strict=True)
    return next(((at, c) for (at, _), c in cells if number(c) not in WIDTHS), None)


def _cells(path: Path) -> tuple[list[str], list[tuple[int, tuple[str, ...]]]]:
    """Column names, and the cells of every row with the number of its line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            found = [(reader.line_num, tuple(row)) for row in reader if any(row)]
    except FileNotFoundError:
        raise DataError(f"no table {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file: {error}") from None
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
    return header, found[1:]
