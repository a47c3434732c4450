"""Rows of .jsonl, an object a line, and of .json, one list of objects."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

from allocator.core.bounded import HEAVIEST, parse_json
from allocator.core.errors import DataError
from evals.rows.files import (
    BESIDE,
    Row,
    Table,
    Written,
    check_texts,
    decoded_lines,
    place,
    weighed,
)

if TYPE_CHECKING:
    from pathlib import Path

# what JSON has no word for, and Python writes all the same
NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read_lines(file: Path) -> Table:
    """Rows of a file with an object on each line; empty lines are passed over.

    Raises:
        DataError: a line is something else; names it.
    """
    numbered = enumerate(decoded_lines(file), 1)
    rows = (
        _row(file, "line", number, _parsed(file, number, line))
        for number, line in numbered
        if line.strip()
    )
    return _table(file, "line", list(weighed(file, rows)))


def read_list(file: Path) -> Table:
    """Rows of a file that is a list of objects.

    Raises:
        DataError: it is something else; names the entry.
    """
    text = _whole(file)
    try:
        entries = loaded(text)
    except ValueError as error:
        hint = ""
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            hint = " (a file with an object on each line is called .jsonl)"
        raise DataError(f"{file.name} is not JSON: {_why(error)}{hint}") from None
    if not isinstance(entries, list):
        raise DataError(f"{file.name} is {_kind(entries)}, not a list of objects")
    rows = [_row(file, "entry", n, each) for n, each in enumerate(entries, 1)]
    return _table(file, "entry", rows)


def loaded(text: str) -> Any:
    """What a JSON text holds: numbers as they are written, each key once.

    Raises:
        ValueError: it is not JSON, nested too deeply, or too much for memory.
    """
    return parse_json(
        text,
        parse_int=Written,
        parse_float=Written,
        parse_constant=NO_NUMBERS.__getitem__,
        object_pairs_hook=_once,
    )


def _parsed(file: Path, number: int, line: str) -> Any:
    where = place(file, "line", number)
    try:
        return loaded(line)
    except ValueError as error:
        hint = ""
        if line.strip() in ("{", "["):
            hint = " (each object stands on one line; a list of them is called .json)"
        raise DataError(f"{where} is not JSON: {_why(error)}{hint}") from None


def _whole(file: Path) -> str:
    """The text of a file.

    Raises:
        DataError: it is longer than what memory holds twice.
    """
    lines, size = [], 0
    for line in decoded_lines(file):
        lines.append(line)
        size += sys.getsizeof(line)
        if size > HEAVIEST // 2:
            raise DataError(
                f"{file.name} takes more than {HEAVIEST // 2:,} bytes: {BESIDE}"
            )
    return "".join(lines)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"an object has {twice!r} twice")
    return found


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        at = f"line {error.lineno}, " if error.lineno > 1 else ""
        at += f"character {error.colno}"
        # where a text is cut off, the words of the module are a riddle
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Untermin")
        return f"{'it ends in the middle' if cut else error.msg.lower()} ({at})"
    return str(error)


def _row(file: Path, unit: str, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        hint = ""
        if isinstance(value, list) and unit == "line":
            hint = " (a file that is one list of objects is called .json)"
        where = place(file, unit, number)
        raise DataError(f"{where} is {_kind(value)}, not an object{hint}")
    check_texts(lambda column: place(file, unit, number, column), value)
    return Row(number, value)


def _kind(value: Any) -> str:
    if isinstance(value, Written | float):
        return "a number"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {"str": "a text", "list": "a list", "dict": "an object"}
    return kinds[type(value).__name__]


def _table(file: Path, unit: str, rows: list[Row]) -> Table:
    columns = dict.fromkeys(column for row in rows for column in row.cells)
    return Table(file, unit, tuple(columns), tuple(rows))
