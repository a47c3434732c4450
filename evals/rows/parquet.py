"""Rows of .parquet, where pyarrow is installed."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, in_one_sentence
from evals.rows.files import BESIDE, Row, Table, Written, check_texts, place, weighed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

UNIT = "row"
# Bytes of one group of rows, as the file tells them: all of it may be one page, and is
# in memory some four times until it is rows.
LARGEST = 4 * 10**8
# rows that are read at once, and bytes that they should and may have unpacked
BATCH, WANTED, LARGEST_BATCH = 256, 2**27, 2**28


def read_parquet(file: Path) -> Table:
    """Rows of a file, counted from 1.

    Raises:
        DataError: pyarrow is missing, or the file damaged.
    """
    try:
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(
            f"{file.name} needs pyarrow (pip install pyarrow); .jsonl, .csv and .tsv "
            "need nothing"
        ) from None
    with in_one_sentence(f"{file.name} cannot be read", DataError):
        opened = parquet.ParquetFile(file)
        columns = tuple(map(str, opened.schema_arrow.names))
        if len(set(columns)) < len(columns):
            raise DataError(f"{file.name} has two columns of one name")
        written = {each.name: _writer(str(each.type)) for each in opened.schema_arrow}
        cells = enumerate(_cells(file, opened), 1)
        rows = (_row(file, number, own, written) for number, own in cells)
        return Table(file, UNIT, columns, tuple(weighed(file, rows)))


def _cells(file: Path, opened: Any) -> Iterator[dict[str, Any]]:
    """What each row holds, a few rows at a time: a small file may unpack to anything.

    Raises:
        DataError: it unpacks to more than memory should hold.
    """
    groups = map(opened.metadata.row_group, range(opened.metadata.num_row_groups))
    size = max((group.total_byte_size for group in groups), default=0)
    if size > LARGEST:
        raise DataError(
            f"{file.name} has more than {LARGEST:,} bytes in one group of rows: write "
            "it in smaller groups"
        )
    batch = max(1, min(BATCH, WANTED // max(size, 1)))
    for found in opened.iter_batches(batch_size=batch):
        if found.nbytes > LARGEST_BATCH:
            raise DataError(
                f"{file.name} has rows of more than {LARGEST_BATCH:,} bytes: {BESIDE}"
            )
        yield from found.to_pylist()


def _writer(kind: str) -> Callable[[float], str]:
    # a float32 has 9 digits at most; all others are noise of a wider type
    return "{:.7g}".format if kind in ("float", "halffloat") else _short


def _short(number: float) -> str:
    """A number in its shortest form: a whole one is written without a point."""
    return str(int(number)) if number == int(number) else repr(number)


def _row(
    file: Path,
    number: int,
    cells: Mapping[str, Any],
    written: Mapping[str, Callable[[float], str]],
) -> Row:
    own = {name: _plain(value, written[name]) for name, value in cells.items()}
    check_texts(lambda column: place(file, UNIT, number, column), own)
    return Row(number, own)


def _plain(value: Any, written: Callable[[float], str]) -> Any:
    """A value as files of texts have it: numbers as they are written."""
    if isinstance(value, list | tuple):
        return [_plain(each, written) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each, written) for name, each in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Written(written(value)) if math.isfinite(value) else float(value)
    kept = value is None or isinstance(value, str | bytes | bool)
    # dates, decimals and the like
    return value if kept else str(value)
