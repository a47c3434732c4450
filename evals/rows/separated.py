"""Rows of .csv and .tsv, whose first row names the columns."""

from __future__ import annotations

import csv
import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from evals.rows.files import (
    LONGEST,
    Row,
    Table,
    check_texts,
    decoded_lines,
    place,
    shown,
    weighed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

UNIT = "row"
# one limit for the whole process is all that the csv module has
_limit = threading.Lock()
QUOTES = "quote a cell with separators, quotes or line breaks as a whole, quotes twice"


def read_separated(file: Path, each: Callable[[Row], Row] = lambda row: row) -> Table:
    """Rows of a file with separated cells; quoted ones may have line breaks.

    .tsv is separated by tabs; .csv by commas, or by what its header has in their place,
    semicolons or tabs. Rows without anything in them are passed over.

    Args:
        file: a .csv or .tsv file.
        each: makes of every row, as it is read, what is kept of it.

    Raises:
        DataError: a row has another number of cells than the header, or a quote too
            many; a column is there twice, or has cells and no name; names the row.
    """
    separator = _separator(file)
    with _long_cells():
        numbered = _records(file, separator)
        _, header = next(numbered, (1, []))
        names = _names(file, header)
        rows = (each(_row(file, number, names, cells)) for number, cells in numbered)
        kept = tuple(weighed(file, rows))
    columns = tuple(name for name in names if name)
    return Table(file, UNIT, columns, kept, texts=True)


def _names(file: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    where = f"the header of {file.name}"
    check_texts(lambda _: where, {str(n): name for n, name in enumerate(names)})
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} has the column {twice!r} twice")
    return names


def _row(file: Path, number: int, names: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(names):
        raise DataError(
            f"{place(file, UNIT, number)} has {len(cells)} cells, and the header "
            f"{len(names)}: {QUOTES}"
        )
    _check_cells(file, number, names, cells)
    named = zip(names, cells, strict=True)
    own = {name: cell or None for name, cell in named if name}
    check_texts(lambda column: place(file, UNIT, number, column), own)
    return Row(number, own)


def _check_cells(
    file: Path, number: int, names: Sequence[str], cells: Sequence[str]
) -> None:
    """Refuse cells that are parts of others, or several rows."""
    where = place(file, UNIT, number)
    for at, (name, cell) in enumerate(zip(names, cells, strict=True)):
        # the first without a name is an index that somebody's program wrote
        if cell.strip() and at and not name:
            raise DataError(
                f"{where} has {shown(cell)} in column {at + 1}, which has no name in "
                f"the header: name it, or {QUOTES}"
            )
        # what stands between two cells that begin and end with quotes of their own
        ends = cell.count("\n") if "\t" in cell else 0
        if ends and cell.count("\t") == ends * (len(names) - 1):
            raise DataError(
                f"{where} has several rows in one cell, from one quote to the next: "
                f"{QUOTES}"
            )


def _separator(file: Path) -> str:
    if file.suffix.lower() == ".tsv":
        return "\t"
    header = next(decoded_lines(file), "")
    return next((each for each in ",;\t" if each in header), ",")


def _records(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Records with their numbers, empty ones left out."""
    lines = decoded_lines(file)
    # some write a blank behind each comma, which would make of quotes a part of cells
    blanks = separator != "\t"
    reader = csv.reader(
        lines, delimiter=separator, strict=True, skipinitialspace=blanks
    )
    for number in itertools.count(1):
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{place(file, UNIT, number)} cannot be cut into cells ({error}): "
                f"{QUOTES}"
            ) from None
        if any(cells):
            yield number, cells


@contextmanager
def _long_cells() -> Iterator[None]:
    with _limit:
        before = csv.field_size_limit(LONGEST)
        try:
            yield
        finally:
            csv.field_size_limit(before)
