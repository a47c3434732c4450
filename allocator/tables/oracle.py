"""Scores of a table, read one at a time: what was not asked for is not known."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from allocator.core.errors import SpecError
from allocator.core.finite import is_number
from allocator.space.sheet import Scores
from allocator.strategies._base import Known

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.allocation import Allocation
    from allocator.search.narrowing import Narrowing
    from allocator.space.table import TableSpace
    from allocator.strategies._base import Strategy


def silent(done: int, total: int) -> None:
    """Tell nobody how far it is."""
    del done, total


class Oracle:
    """Reads scores, one row at a time, and counts.

    Args:
        space: rows that may be read.
        limit: scores that may be read in all.
        higher_is_better: whether a higher score is the better one.
        name: of the column of scores.
    """

    def __init__(
        self,
        space: TableSpace,
        limit: int,
        higher_is_better: bool = True,
        name: str = "score",
    ) -> None:
        self.space = space
        self.limit = limit
        self.higher_is_better = higher_is_better
        self._cells = Scores(space.table.name, name, space.table.notation)
        self.scores: dict[str, float] = {}
        self.order: list[Allocation] = []

    @property
    def reads(self) -> int:
        """Scores read so far."""
        return len(self.order)

    def read(self, allocation: Allocation) -> float:
        """The score of a row that fits; NaN where its measurement failed.

        Raises:
            DataError: the cell holds no number, or not a percentage like others.
            SpecError: a row that does not fit or was read before, or no read is left.
        """
        if not self.space.fits(allocation) or allocation.digest in self.scores:
            raise SpecError(f"{allocation.digest} is no unread row that fits")
        if self.reads >= self.limit:
            raise SpecError(f"all {self.limit} reads are spent")
        row = self.space.row(allocation)
        value = self._cells.read(row.score, row.line)
        self.scores[allocation.digest] = value
        self.order.append(allocation)
        return value

    @property
    def read_so_far(self) -> tuple[tuple[Allocation, float], ...]:
        """Rows with their scores as the table has them, in the order of reading.

        Without those whose measurement failed.
        """
        read = ((a, self.scores[a.digest]) for a in self.order)
        return tuple((a, score) for a, score in read if is_number(score))

    @property
    def failed(self) -> list[Allocation]:
        """Rows that were read and whose measurement failed."""
        return [a for a in self.order if not is_number(self.scores[a.digest])]

    @property
    def known(self) -> Known:
        """The same as strategies take it: higher is better, whatever the table says."""
        sign = 1 if self.higher_is_better else -1
        read = tuple((a, sign * score) for a, score in self.read_so_far)
        return Known(read, taken=frozenset(self.scores))


def read_rows(
    strategy: Strategy | Narrowing,
    oracle: Oracle,
    progress: Callable[[int, int], object] = silent,
) -> float:
    """Read rows until the reads are spent or no row is left.

    The widest uniform row that fits comes first, then what the strategy proposes.

    Returns:
        Seconds that the strategy took.
    """
    space, spent = oracle.space, 0.0
    total = min(oracle.limit, len(space.rows))
    fitting = [a for a in space.alike_rows if space.fits(a)]
    if fitting:
        oracle.read(fitting[-1])
    while oracle.reads < total:
        progress(oracle.reads, total)
        started = time.perf_counter()
        found = strategy.ask(oracle.known)
        spent += time.perf_counter() - started
        if not found:
            break
        oracle.read(found[0].allocation)
    progress(oracle.reads, total)
    return spent
