"""The table of a user's file, read by its ending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from evals.rows.files import found_file
from evals.rows.jsons import read_lines, read_list
from evals.rows.parquet import read_parquet
from evals.rows.separated import read_separated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from evals.rows.files import Table

READERS: Mapping[str, Callable[[Path], Table]] = {
    ".csv": read_separated,
    ".json": read_list,
    ".jsonl": read_lines,
    ".parquet": read_parquet,
    ".tsv": read_separated,
}


def read_table(data: Path) -> Table:
    """All rows of a file, or of `samples.*` in a folder.

    Raises:
        DataError: there is none, it cannot be read, or has no rows; names the row.
    """
    file = found_file(data, READERS)
    table = READERS[file.suffix.lower()](file)
    if not table.rows:
        raise DataError(f"{file.name} has no rows")
    return table
