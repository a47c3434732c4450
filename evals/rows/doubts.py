"""Files whose columns may mean something else than they would be taken for."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from allocator.core.own import AGREEMENT
from evals.rows.columns import listed, naming, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evals.rows.columns import Columns
    from evals.rows.files import Table

# the caption of a picture as often as a question about it
UNCLEAR = "text"
# what answers are called that describe a picture without being asked
CAPTIONS = ("caption", "captions", "reference", "references", "text")
# parts of names of columns that hold what is right
RIGHT = (
    *("answer", "label", "caption", "truth", "gold", "target", "reference", "response"),
    "solution",
)
# roles without which a file means something else
DECIDING = ("question", "answers", "choices", "split")
# of two names, of which one may be a slip of the other
ALIKE = 0.8


def check_clear(
    table: Table,
    columns: Columns,
    named: Mapping[str, str],
    metric: str | None,
    roles: Mapping[str, Sequence[str]],
) -> None:
    """Refuse to take a file without questions, or answers, that may have them.

    Args:
        table: the file.
        columns: what its columns were taken for.
        named: columns by role, as somebody says.
        metric: as somebody says.
        roles: names that columns have, by role.

    Raises:
        DataError: a column that is not read may be meant; lists the columns, and the
            option that names them.
    """
    _check_text(table, columns, named)
    for role in DECIDING:
        if columns.get(role) is None and (slip := _slip(columns, roles.get(role, ()))):
            raise DataError(
                f"column {slip!r} of {table.file.name} looks like its {role}: "
                f"{naming(role, slip)}, or give it another name"
            )
    if columns.get("answers") is None and metric is None:
        _check_unanswered(table, columns)
    if columns.get("question") is None and columns.unread:
        _check_unasked(table, columns, named)


def _check_text(table: Table, columns: Columns, named: Mapping[str, str]) -> None:
    text = columns.get("question") or ""
    alone = columns.get("answers") is None and "question" not in named
    if plain(text) == UNCLEAR and alone:
        raise DataError(
            f"{text!r} of {table.file.name} ({listed(table)}) can be a question or a "
            f"caption: {naming('question', text)} or answers={text}"
        )


def _check_unanswered(table: Table, columns: Columns) -> None:
    otherwise = f"--metric {AGREEMENT} to compare replies with those of full precision"
    for column in columns.unread:
        if any(part in plain(column) for part in RIGHT):
            raise DataError(
                f"column {column!r} of {table.file.name} ({listed(table)}) may hold "
                f"answers: {naming('answers', column)}, or {otherwise}"
            )
    if columns.get("question") is None and columns.unread:
        raise DataError(
            f"no column of {table.file.name} is known to hold questions or answers "
            f"({listed(table)}): {naming('question', 'COLUMN')}, or {otherwise}"
        )


def _check_unasked(table: Table, columns: Columns, named: Mapping[str, str]) -> None:
    answered = columns.get("answers")
    if answered and "answers" not in named and plain(answered) not in CAPTIONS:
        raise DataError(
            f"no column of {table.file.name} is known to hold questions "
            f"({listed(table)}): {naming('question', 'COLUMN')}, or answers={answered} "
            "if they describe the pictures"
        )


def _slip(columns: Columns, names: Sequence[str]) -> str | None:
    """A column that is not read and nearly has one of these names."""
    for column in columns.unread:
        for name in names:
            near = abs(len(column) - len(name)) < 2
            if near and SequenceMatcher(None, plain(column), name).ratio() >= ALIKE:
                return column
    return None
