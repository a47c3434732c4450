"""Rows meant as items: what is asked about which picture, and what is right."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS
from allocator.core.prompts import IMAGES
from evals.rows.files import Row, shown
from evals.rows.pictures import picture_of
from evals.rows.sets import Item
from evals.rows.values import (
    Cell,
    answers_of,
    choices_of,
    is_count,
    letters_of,
    text_of,
    unmarked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from allocator.core.own import Digests, Wishes
    from allocator.core.ports import Split
    from evals.rows.columns import Columns
    from evals.rows.files import Table

    T = TypeVar("T")

# how sentences have a role, where it is not itself
ARTICLES = {"image": "an image", "question": "a question", "id": "an id"}


@dataclass(frozen=True)
class Meant:
    """A table with the columns that were found to hold what."""

    table: Table
    columns: Columns

    def cell(self, row: Row, column: str) -> Cell:
        """What a row has in a column."""
        place = self.table.place(row.number, column)
        return Cell(place, row.cells.get(column), self.table.texts)

    def cells(self, role: str) -> list[Cell]:
        """Cells of a role, a row each: all of them filled, or none returned.

        Raises:
            DataError: some are filled and others not; names the first of these.
        """
        column = self.columns.get(role)
        if column is None:
            return []
        found = [self.cell(row, column) for row in self.table.rows]
        empty = [cell for cell in found if cell.missing]
        if len(empty) == len(found):
            return []
        if empty:
            what = ARTICLES.get(role, role)
            raise empty[0].refused(f"is empty, and other rows have {what}")
        return found

    def without_pictures(self) -> Meant:
        """The same without cells of pictures, which may be all of a large file."""
        column = self.columns.of["image"]
        rows = (
            Row(row.number, {k: v for k, v in row.cells.items() if k != column})
            for row in self.table.rows
        )
        return replace(self, table=replace(self.table, rows=tuple(rows)))

    def read(self, role: str, meaning: Callable[[Cell], T]) -> list[T] | None:
        """What the cells of a role mean; None where all are empty."""
        return [meaning(cell) for cell in self.cells(role)] or None


def read_items(meant: Meant) -> list[Item]:
    """All rows as items, in the order of the file, without their pictures.

    Choices that are right are named by their letters.

    Raises:
        DataError: a cell cannot be meant, or two rows have one id; names row and
            column.
    """
    rows = meant.table.rows
    nothing: list[tuple[str, ...]] = [()] * len(rows)
    texts = meant.read("question", _question) or [""] * len(rows)
    answers = meant.read("answers", answers_of)
    choices = _choices(meant)
    if answers and choices:
        answers = _lettered(meant, answers, choices)
    columns = (_names(meant), texts, answers or nothing, choices or nothing)
    return [
        Item(
            *(row.number, name, str(text)),
            tuple(map(str, own)),
            tuple(map(str, each)),
        )
        for row, name, text, own, each in zip(rows, *columns, strict=True)
    ]


def with_pictures(
    meant: Meant, items: Sequence[Item], wishes: Wishes, digests: Digests
) -> list[Item]:
    """Items with their pictures, the same one under the same name.

    Args:
        meant: the table.
        items: one for each row.
        wishes: where pictures go that it holds within itself, and whether they may be
            missing.
        digests: of files by their content.

    Raises:
        DataError: a picture is missing or damaged; names row and column.
    """
    column = meant.columns.of["image"]
    folder = meant.table.file.parent
    cells = (meant.cell(row, column) for row in meant.table.rows)
    lenient = wishes.skip_broken
    files = [picture_of(c, folder, wishes.cache, lenient=lenient) for c in cells]
    held = digests(files)
    # one picture has one name, so that nobody takes it for two
    first = {held[file]: file for file in reversed(files)}
    return [
        replace(item, image=held[file], file=first[held[file]])
        for item, file in zip(items, files, strict=True)
    ]


def with_sets(meant: Meant, items: Sequence[Item], *, named: bool) -> list[Item]:
    """Items in the sets that their file says; as they are where it says none.

    Args:
        meant: the table.
        items: one for each row.
        named: somebody says that the column holds sets.

    Raises:
        DataError: some rows have a set and others something else; names the first.
    """
    column = meant.columns.get("split")
    if column is None:
        return list(items)
    cells = [meant.cell(row, column) for row in meant.table.rows]
    known: Mapping[str, Split] = {split: split for split in SPLITS}
    said = [known.get(str(cell.value).strip().lower()) for cell in cells]
    if not any(said) and not named:
        return list(items)
    for cell, split in zip(cells, said, strict=True):
        if split is None:
            raise cell.refused(
                f"is {shown(cell.value)}, and others are among {', '.join(SPLITS)}"
                if any(said)
                else f"is {shown(cell.value)}: sets are {', '.join(SPLITS)}"
            )
    return [replace(i, split=split) for i, split in zip(items, said, strict=True)]


def _question(cell: Cell) -> str:
    """A text that marks no picture, which has a place of its own."""
    text = text_of(cell)
    found = IMAGES.search(text)
    # "<image 1>" is how MMMU speaks of a picture, and no model's mark
    if found and not re.search(r"\d", found[0]):
        raise cell.refused(
            f"has {found[0]}, and the picture has a place of its own: take it out"
        )
    return text


def _choices(meant: Meant) -> list[tuple[str, ...]] | None:
    """Choices of each row, from a list or from a column each."""
    if not meant.columns.letters:
        return meant.read("choices", choices_of)
    found, without = [], []
    for row in meant.table.rows:
        cells = [meant.cell(row, letter) for letter in meant.columns.letters]
        filled = [not cell.missing for cell in cells]
        n_filled = sum(filled)
        if not all(filled[:n_filled]):
            raise cells[filled.index(False)].refused(
                "is empty, and a choice behind it is not"
            )
        if n_filled < 2:
            without.append(cells[n_filled])
        texts = [text_of(cell) for cell in cells[:n_filled]]
        found.append(unmarked(cells[0], texts))
    if len(without) == len(found):
        return None
    if without:
        raise without[0].refused("is empty, and other rows have choices")
    return found


def _lettered(
    meant: Meant,
    answers: Sequence[tuple[str, ...]],
    choices: Sequence[tuple[str, ...]],
) -> list[tuple[str, ...]]:
    cells = meant.cells("answers")
    pairs = zip(cells, answers, strict=True)
    # whoever counts from 1 has no 0
    counted = any(
        is_count(cell, answer) and int(answer) == 0
        for cell, own in pairs
        for answer in own
    )
    rows = zip(cells, answers, choices, strict=True)
    return [letters_of(cell, own, each, counted) for cell, own, each in rows]


def _names(meant: Meant) -> list[str]:
    """Ids of the rows: their own, or else their numbers.

    Raises:
        DataError: two rows have the same; names both.
    """
    cells = meant.cells("id")
    if not cells:
        return [str(row.number) for row in meant.table.rows]
    seen: dict[str, int] = {}
    for row, name in zip(meant.table.rows, map(text_of, cells), strict=True):
        if name in seen:
            column = meant.columns.of["id"]
            raise DataError(
                f"{meant.table.place(row.number, column)} is {shown(name)}, as in "
                f"{meant.table.unit} {seen[name]}: every sample has an id of its own"
            )
        seen[name] = row.number
    return list(map(str, seen))
