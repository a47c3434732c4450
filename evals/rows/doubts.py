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
    name = table.file.name
    text = columns.get("question") or ""
    asked, answered = columns.get("question"), columns.get("answers")
    if plain(text) == UNCLEAR and answered is None and "question" not in named:
        raise DataError(
            f"{text!r} of {name} ({listed(table)}) can be a question or a caption: "
            f"{naming('question', text)} or answers={text}"
        )
    for role in DECIDING:
        if columns.get(role) is None and (slip := _slip(columns, roles.get(role, ()))):
            raise DataError(
                f"column {slip!r} of {name} looks like its {role}: {naming(role, slip)}"
            )
    if asked is not None or not columns.unread:
        return
    if answered is None and metric is None:
        raise DataError(
            f"no column of {name} is known to hold questions or answers "
            f"({listed(table)}): {naming('question', 'COLUMN')}, or --metric "
            f"{AGREEMENT} to have pictures described"
        )
    told = "answers" in named or plain(answered or CAPTIONS[0]) in CAPTIONS
    if not told:
        raise DataError(
            f"no column of {name} is known to hold questions ({listed(table)}): "
            f"{naming('question', 'COLUMN')}, or answers={answered} if they describe "
            "the pictures"
        )


def _slip(columns: Columns, names: Sequence[str]) -> str | None:
    """A column that is not read and nearly has one of these names."""
    for column in columns.unread:
        for name in names:
            near = abs(len(column) - len(name)) < 2
            if near and SequenceMatcher(None, plain(column), name).ratio() >= ALIKE:
                return column
    return None
