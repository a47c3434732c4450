"""Rows of a benchmark's TSV file, whose pictures it holds in base64.

Columns are those of VLMEvalKit (https://github.com/open-compass/VLMEvalKit, its
docs/en/Development.md): index, image, image_path, question, hint, A, B, C, ..., answer,
category, l2-category, split. Rows are read one at a time, so that no more than one
picture is in memory.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from evals.rows.files import Row, Table, found_file, place
from evals.rows.pictures import picture_of
from evals.rows.separated import UNIT, read_separated
from evals.rows.values import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ROLES: Mapping[str, Sequence[str]] = {
    "image": ("image", "image_path"),
    "question": ("question",),
    "answers": ("answer", "answers"),
    "id": ("index", "id"),
    "split": ("split",),
    "choices": ("choices", "options"),
}
QUESTION, HINT = "question", "hint"
# Python's word for nothing, which among choices may be one
NO_HINT = "none"
# the coarser one first: MMBench has 6 of them, and 20 of the other
CATEGORIES = ("l2-category", "category")
# what programs write into empty cells
NOTHING = "nan"
# an index in the place of a picture names the row that has it; VLMEvalKit takes for one
# whatever is not longer
LONGEST_INDEX = 64
# columns that may have a list as Python prints it
PRINTED = ("image", "image_path", "answer", "answers", "choices", "options")
LETTER = re.compile(r"[A-Z]")


def read_benchmark(data: Path, cache: Path) -> Table:
    """All rows of a file, their pictures kept as files of their own.

    Hints stand before questions. Cells without anything in them, or "nan", are empty;
    "None" may be a choice, and stays one, which VLMEvalKit drops.

    Args:
        data: a .tsv file, or a folder with `samples.tsv`.
        cache: folder for the pictures.

    Raises:
        DataError: it cannot be read, has no rows, or a row has no picture, a damaged
            one or several; names row and column.
    """
    file = found_file(data, (".tsv",))
    reading = _Reading(file, cache)
    table = read_separated(file, reading.kept)
    if not table.rows:
        raise DataError(f"{file.name} has no rows")
    rows = tuple(map(reading.with_picture, table.rows))
    hint = (HINT,) if QUESTION in table.columns else ()
    used = (*hint, *CATEGORIES)
    columns = tuple(c for c in table.columns if c.lower() not in used)
    return replace(table, rows=rows, columns=columns)


def categories_of(table: Table) -> dict[int, str]:
    """Category of each row that has one, by the row's number."""
    for wanted in CATEGORIES:
        found = {
            row.number: str(value)
            for row in table.rows
            for column, value in row.cells.items()
            if column.lower() == wanted and value is not None
        }
        if found:
            return found
    return {}


class _Reading:
    """What is known of a file while it is read: files of pictures, by index of row."""

    def __init__(self, file: Path, cache: Path) -> None:
        self.file, self.cache = file, cache
        self.pictures: dict[str, str] = {}

    def kept(self, row: Row) -> Row:
        """A row as it is read, a picture in it replaced by the name of a file."""
        cells = {column: _filled(value) for column, value in row.cells.items()}
        for column in PRINTED:
            cells.update(self._unlisted(row.number, column, cells.get(column)))
        held = cells.get("image")
        if held is not None and len(held) > LONGEST_INDEX:
            cell = self._cell(row.number, "image", held)
            picture = str(picture_of(cell, self.file.parent, self.cache))
            cells["image"] = picture
            self.pictures[cells.get("index") or ""] = picture
        hint, question = cells.get(HINT), cells.get(QUESTION)
        if hint is not None and question is not None and hint.lower() != NO_HINT:
            cells[QUESTION] = f"{hint}\n{question}"
        answer = cells.get("answer")
        if answer is not None and LETTER.fullmatch(answer) and cells.get("A"):
            # a letter, whatever the choices are: those of AI2D may be letters
            cells["answer"] = f"({answer})"
        return Row(row.number, cells)

    def with_picture(self, row: Row) -> Row:
        """A row whose picture may be that of another row."""
        held = row.cells.get("image")
        if held in self.pictures:
            return Row(row.number, {**row.cells, "image": self.pictures[held]})
        if held is not None and held.isdecimal():
            raise self._cell(row.number, "image", held).refused(
                f"is {held}, and no row of that index has a picture"
            )
        return row

    def _unlisted(self, number: int, column: str, value: Any) -> dict[str, Any]:
        """A cell with a list as Python prints it: as JSON, or the one picture in it."""
        found = _printed(value) if value is not None else None
        if found is None:
            return {}
        if column not in ROLES["image"]:
            return {column: json.dumps(found)}
        if len(found) != 1 or not isinstance(found[0], str):
            raise self._cell(number, column, value).refused(
                f"has {len(found)} pictures: a sample has one"
            )
        return {column: found[0]}

    def _cell(self, number: int, column: str, value: Any) -> Cell:
        return Cell(place(self.file, UNIT, number, column), value, texts=True)


def _filled(value: Any) -> Any:
    """A cell without blanks around it, None if there is nothing in it."""
    text = value.strip() if isinstance(value, str) else value
    return None if text in ("", None) or text.lower() == NOTHING else text


def _printed(text: str) -> list[Any] | None:
    """A list as Python prints it; None for any other text."""
    try:
        found = ast.literal_eval(text) if text.startswith("[") else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, list) else None
