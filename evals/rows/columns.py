"""Which columns of a file hold what: by their names, or as somebody says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from string import ascii_uppercase
from typing import TYPE_CHECKING

from allocator.core.errors import DataError, SpecError, UnknownNameError
from allocator.core.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evals.rows.files import Table

# what a column can hold, and the names that columns of people's files have; the first
# comes before the others
ROLES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("image", "images", "image_path", "image_file", "image_name", "img"),
        *("img_path", "file_name", "filename", "file", "path", "picture", "photo"),
    ),
    "question": ("question", "prompt", "query", "text", "instruction"),
    "answers": (
        *("answers", "answer", "label", "labels", "references", "reference"),
        *("captions", "caption", "ground_truth", "groundtruth", "gt", "gt_answer"),
        "target",
    ),
    "id": ("id", "index", "question_id", "sample_id", "uid"),
    "split": ("split",),
    "choices": ("choices", "options"),
}
# a column with a choice: "A", "a", "option_a", "choice A"
LETTERED = re.compile(r"(?:option|choice)?[_ ]?([A-Za-z])", re.I)


@dataclass(frozen=True)
class Columns:
    """The column of each role that a file has.

    `letters` are columns A, B, C, ... with a choice each, from A on; `unread` are those
    that hold nothing known.
    """

    of: Mapping[str, str]
    letters: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def get(self, role: str) -> str | None:
        """The column of a role, if there is one."""
        return self.of.get(role)


def meant_columns(
    table: Table,
    named: Mapping[str, str] | None = None,
    roles: Mapping[str, Sequence[str]] = ROLES,
) -> Columns:
    """Which columns hold what.

    Args:
        table: the file.
        named: columns by role, as somebody says; all others are taken by their names,
            whatever the capitals.
        roles: names that columns have, by role.

    Raises:
        UnknownNameError: a role or a column that there is not.
        SpecError: a column is named for two roles.
        DataError: several columns could be meant, or none holds pictures; lists the
            columns, and the option that names them.
    """
    found = _named(table, named or {}, roles)
    free = [column for column in table.columns if column not in found.values()]
    for role in roles:
        if role not in found:
            fitting = _fitting(free, roles[role])
            if len(fitting) > 1:
                raise DataError(
                    f"{' and '.join(map(repr, fitting))} of {table.file.name} can each "
                    f"be its {role}: {naming(role, fitting[0])}"
                )
            found.update(zip([role], fitting, strict=False))
    if "image" not in found:
        raise DataError(
            f"no column of {table.file.name} is known to hold pictures "
            f"({listed(table)}): {naming('image', 'COLUMN')}"
        )
    letters = () if "choices" in found else _letters(free, table.file.name)
    read = {*found.values(), *letters}
    unread = tuple(column for column in table.columns if column not in read)
    return Columns(found, letters, unread)


def _named(
    table: Table, named: Mapping[str, str], roles: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    for role, column in named.items():
        if role not in roles:
            raise UnknownNameError("role of a column", role, roles)
        if column not in table.columns:
            kind = f"column in {table.file.name}"
            raise UnknownNameError(kind, column, table.columns)
    columns = list(named.values())
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise SpecError(f"--columns names {twice!r} for two things: it can hold one")
    return dict(named)


def _fitting(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Columns of these names; those of the first name alone, if there are any."""
    first = [column for column in columns if plain(column) == names[0]]
    return first or [column for column in columns if plain(column) in names]


def _letters(columns: Sequence[str], name: str) -> tuple[str, ...]:
    """Columns A, B, C, ... without a gap; two at least, else they are none.

    Raises:
        DataError: two columns have one letter.
    """
    lettered: dict[str, list[str]] = {}
    for column in columns:
        if match := LETTERED.fullmatch(column.strip()):
            lettered.setdefault(match[1].upper(), []).append(column)
    found = list(takewhile(lettered.__contains__, ascii_uppercase))
    if len(found) < 2:
        return ()
    for letter in found:
        if len(lettered[letter]) > 1:
            raise DataError(
                f"{' and '.join(map(repr, lettered[letter]))} of {name} can each be "
                f"its choice {letter}: give the others another name"
            )
    return tuple(lettered[letter][0] for letter in found)


def plain(column: str) -> str:
    """A column's name as `ROLES` has it."""
    return column.strip().lower().replace(" ", "_").replace("-", "_")


def naming(role: str, column: str) -> str:
    """The option that names a column."""
    return f"say which with --columns {role}={visible(column)}"


def listed(table: Table) -> str:
    """All columns of a table."""
    return f"columns: {', '.join(map(visible, table.columns)) or 'none'}"
