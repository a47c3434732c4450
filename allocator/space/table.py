"""A table of measurements as a search space: its rows are all that can be measured.

Bits and sizes of every row are known beforehand. Scores stay text until they are read,
so that nothing can be learned from rows that were never asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.allocation import FULL, WIDTHS, Allocation, Choice
from allocator.core.errors import BudgetError
from allocator.space.base import Space
from allocator.space.csv_file import read_csv
from allocator.space.notation import PLAIN, Notation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# a table names no method; choices below 16 bits need one, and it is never shown
METHOD = "measured"
# bytes of one bit per weight: as if the model had eight million weights
UNIT = 1e6
# what a budget written in decimals may lack of a size that it was meant to allow
SLACK = 1e-9


@dataclass(frozen=True)
class Level(Choice):
    """What a table says of a group: any positive width, a fraction too."""

    bits: int | float  # type: ignore[assignment] # strategies take it for a number

    def __post_init__(self) -> None:
        """Leave the width as it was read."""


@dataclass(frozen=True)
class Row:
    """One measured allocation: the line of the file, its bpw, its score as written."""

    allocation: Allocation
    bpw: float
    score: str
    line: int


@dataclass(frozen=True)
class Measurements:
    """A table as it was read.

    `keys` are the groups, `rows` the rows of different bits in the order of the file,
    and `repeats` the number of rows that were left out because they repeat the bits of
    another: of these the smallest stays, the first of equals. `notation` is how numbers
    are written in it, `notes` are sentences about what was left out.
    """

    name: str
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    repeats: int
    notation: Notation = PLAIN
    notes: tuple[str, ...] = ()


def read_table(
    path: Path, score: str, bpw: str, bits: str | None = None
) -> Measurements:
    """Read a table of measurements.

    Args:
        path: a CSV file whose first line names the columns.
        score: name of the column of scores.
        bpw: name of the column of bits per weight.
        bits: the columns of groups, see `read_csv`.

    Raises:
        DataError: not a table with such columns, or bits per weight that are no
            positive numbers.
    """
    sheet = read_csv(path, (score, bpw), bits)
    kept: dict[str, Row] = {}
    cells = zip(
        sheet.lines,
        sheet.bits,
        sheet.sizes(bpw),
        sheet.column(score),
        strict=True,
    )
    for (line, _), widths, size, text in cells:
        row = Row(_allocation(sheet.keys, widths), size, text, line)
        rival = kept.get(row.allocation.digest)
        if rival is None or row.bpw < rival.bpw:
            kept[row.allocation.digest] = row
    rows = sorted(kept.values(), key=lambda row: row.line)
    repeats = len(sheet.lines) - len(rows)
    return Measurements(
        path.name, sheet.keys, tuple(rows), repeats, sheet.notation, sheet.notes
    )


def _allocation(keys: Sequence[str], widths: Sequence[int | float]) -> Allocation:
    picks = (_choice(bits) for bits in widths)
    return Allocation(tuple(zip(keys, picks, strict=True)))


def _choice(bits: int | float) -> Choice:
    if isinstance(bits, int) and bits in WIDTHS:
        return Choice(bits, None if bits == FULL else METHOD)
    return Level(bits, METHOD)


def _widths(rows: Iterable[Allocation]) -> list[int]:
    """Widths that occur, rising."""
    return sorted({choice.bits for row in rows for _, choice in row})


class TableSpace(Space):
    """The rows of a table that fit a budget.

    `group_bytes` are an additive estimate of the sizes, for moves that widen and narrow
    groups; whether a row fits is decided by its own bits per weight alone.

    Args:
        table: the measurements.
        budget: bits per weight.

    Raises:
        BudgetError: no row fits.
    """

    def __init__(self, table: Measurements, budget: float) -> None:
        self.table = table
        self.budget = budget
        self._row = {row.allocation.digest: row for row in table.rows}
        fitting = [row for row in table.rows if row.bpw <= budget + SLACK]
        if not fitting:
            least = min(row.bpw for row in table.rows)
            # rounded up, so that what is printed can be asked for
            raise BudgetError(
                f"budget {budget:.4f} bpw is below the smallest row of {table.name}, "
                f"{math.ceil(least * 10_000) / 10_000:.4f} bpw"
            )
        self._rows = tuple(row.allocation for row in fitting)
        self._digests = tuple(allocation.digest for allocation in self._rows)
        self.choices = tuple(_choice(bits) for bits in _widths(self._rows))

    @property
    def unbounded(self) -> TableSpace:
        """The same table under a budget that every row keeps."""
        return TableSpace(self.table, max(row.bpw for row in self.table.rows))

    @property
    def keys(self) -> tuple[str, ...]:
        """Group keys in order: the names of the bit columns."""
        return self.table.keys

    @property
    def rows(self) -> Sequence[Allocation]:
        """The rows that fit, in the order of the table."""
        return self._rows

    @cached_property
    def group_bytes(self) -> Mapping[str, Mapping[int, float]]:
        """Estimated bytes of each group at each width, proportional to the width."""
        slopes, rest = self._estimate
        share = rest / len(self.keys)
        return {
            key: {bits: slope * bits + share for bits in self._all_widths}
            for key, slope in zip(self.keys, slopes, strict=True)
        }

    @cached_property
    def _all_widths(self) -> list[int]:
        """Every width of the table, rising, 16 always among them."""
        return sorted({FULL, *_widths([row.allocation for row in self.table.rows])})

    @cached_property
    def _estimate(self) -> tuple[list[float], float]:
        """Least squares of bytes on bits: one slope for each group, and the rest."""
        rows = self.table.rows
        bits = np.array([[c.bits for _, c in row.allocation] for row in rows], float)
        bytes_ = UNIT * np.array([row.bpw for row in rows])
        centred = bits - bits.mean(axis=0)
        found = np.linalg.lstsq(centred, bytes_ - bytes_.mean(), rcond=None)[0]
        slopes = np.maximum(found, 0.0)
        rest = float(bytes_.mean() - bits.mean(axis=0) @ slopes)
        return [float(slope) for slope in slopes], rest

    @cached_property
    def room(self) -> float:
        """The budget in bytes; never less than what the narrowest choices take."""
        narrow = self.choices[0].bits
        least = sum(costs[narrow] for costs in self.group_bytes.values())
        return max(UNIT * (self.budget + SLACK), least)

    def bpw(self, allocation: Allocation) -> float:
        """Bits per weight of a row; an estimate for anything else."""
        return self.bytes(allocation) / UNIT

    def bytes(self, allocation: Allocation) -> float:
        """Bytes of a row; an estimate for anything else."""
        row = self._row.get(allocation.digest)
        return super().bytes(allocation) if row is None else UNIT * row.bpw

    def fits(self, allocation: Allocation) -> bool:
        """Whether an allocation is a row of the table that keeps the budget."""
        row = self._row.get(allocation.digest)
        return row is not None and row.bpw <= self.budget + SLACK

    def nearest(
        self, allocation: Allocation, taken: Collection[str] = ()
    ) -> Allocation | None:
        """The row nearest in log2 bits (least squares) that fits and is not taken.

        The first of equals; None where all are taken.
        """
        free = [at for at, digest in enumerate(self._digests) if digest not in taken]
        if not free:
            return None
        chosen = dict(allocation.choices)
        wanted = np.log2([chosen[key].bits for key in self.keys])
        distance = ((self._log2[free] - wanted) ** 2).sum(axis=1)
        return self._rows[free[int(distance.argmin())]]

    @cached_property
    def _log2(self) -> NDArray[np.float64]:
        bits = [[choice.bits for _, choice in row] for row in self._rows]
        return np.log2(np.array(bits, dtype=np.float64))

    def row(self, allocation: Allocation) -> Row:
        """The row of an allocation that is in the table, whether it fits or not."""
        return self._row[allocation.digest]

    @cached_property
    def uniform(self) -> tuple[Allocation, ...]:
        """Rows below 16 bit with the same bits in every group, narrow to wide.

        Rows over the budget are among them.
        """
        return tuple(a for a in self.alike_rows if a.choices[0][1].bits < FULL)

    @cached_property
    def alike_rows(self) -> tuple[Allocation, ...]:
        """Every row with the same bits in every group, narrow to wide."""
        alike = (self.alike(_choice(bits)) for bits in self._all_widths)
        return tuple(a for a in alike if a.digest in self._row)
