"""What keeping a study costs: to open it, and for one step of a search, by its trials.

    python -m studies.scale.kept    # prints the table of studies/results/kept.md

Counts statements, and the bytes of their parameters and of the rows that come back, of
the search that is there, whose scores are a formula: on SQLite, and on a PostgreSQL
server of its own (Debian's package). `written` are trials, which make up most of a
step. Seconds are of this process alone (CPU), since what else a machine does is no part
of it; those that the clock took stand beside.
"""

from __future__ import annotations

import gc
import sqlite3
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa

from allocator.search.leftover import note_dead, take_over
from allocator.search.propose import proposers, so_far, step
from allocator.study.journal import Journal
from allocator.study.looks import Looks
from studies.scale.filled import Filler, model
from tests.databases import shared_server
from tests.searches import FakeBench, asked_for, search_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allocator.search.running import Search

SIZES = (100, 1_000, 10_000)
# steps of which the middle one is told
STEPS = 3
METHODS, WIDTHS = ("uniform", "gptq", "awq"), (2, 3, 4, 5, 6, 8)
COLUMNS = ("database", "trials", "what", "written", "statements", "kB", "CPU s", "s")


@dataclass
class Traffic:
    """What went to a database and came back; `written` are trials."""

    written: int = 0
    statements: int = 0
    bytes: int = 0
    seconds: float = 0.0
    passed: float = 0.0
    _since: tuple[float, float] = field(default=(0.0, 0.0))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what happens within."""
        global _now
        gc.collect()
        before, _now = _now, self
        self._since = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.process_time() - self._since[0]
            self.passed += time.perf_counter() - self._since[1]
            _now = before


_now = Traffic()


def size_of(row: Any) -> int:
    """Bytes of a row, or of parameters: 8 for each number."""
    if isinstance(row, str | bytes):
        return len(row)
    if isinstance(row, dict):
        return sum(map(size_of, row.values()))
    return sum(map(size_of, row)) if isinstance(row, list | tuple) else 8


class Counting:
    """A cursor that counts the rows that are fetched."""

    def fetchone(self) -> Any:
        """The next row."""
        found = super().fetchone()  # type: ignore[misc]
        _now.bytes += size_of(found or ())
        return found

    def fetchmany(self, *given: Any) -> Any:
        """The next rows."""
        found = super().fetchmany(*given)  # type: ignore[misc]
        _now.bytes += size_of(found)
        return found

    def fetchall(self) -> Any:
        """All rows."""
        found = super().fetchall()  # type: ignore[misc]
        _now.bytes += size_of(found)
        return found


class LiteCursor(Counting, sqlite3.Cursor):
    """Of SQLite."""


class ServerCursor(Counting, psycopg.Cursor[Any]):
    """Of PostgreSQL."""


class LiteConnection(sqlite3.Connection):
    """Makes cursors that count."""

    def cursor(self, factory: Any = LiteCursor) -> Any:
        """A cursor that counts."""
        return super().cursor(factory)


@sa.event.listens_for(sa.Engine, "do_connect")
def _connect(dialect: Any, record: Any, given: Any, named: dict[str, Any]) -> None:
    del record, given
    if dialect.name == "sqlite":
        named["factory"] = LiteConnection
    else:
        named["cursor_factory"] = ServerCursor


@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def _executed(*given: Any) -> None:
    _now.statements += 1
    _now.bytes += size_of(given[3])


def filled(url: str, trials: int) -> None:
    """A study of so many trials."""
    engine = sa.create_engine(url)
    Filler(opened(url), engine).fill(trials)
    engine.dispose()


def opened(url: str) -> Search:
    """A search of the study."""
    asked = asked_for(methods=METHODS, widths=WIDTHS, trials=10**6)
    return search_of(model(), url, asked, FakeBench(), searched=1000)


def open_all(url: str) -> Traffic:
    """Open it, and read its trials, records and looks."""
    space, found = opened(url).setup.space, Traffic()
    with found.counted():
        journal = Journal.load(url, "study")
        assert journal.entries(space)
        assert journal.records(space)
        assert Looks.recalled(journal.looks(space)).looks
    return found


def steps(url: str) -> list[Traffic]:
    """Steps of a search that goes on, each counted alone."""
    search = opened(url)
    note_dead(search)
    space = search.setup.space
    proposer = proposers(search, search.journal.damage(space) or {})(space)
    told = []
    # the first one reads what is there
    for _ in range(STEPS + 1):
        found = Traffic()
        before = search.journal.study.get_trials(deepcopy=False)
        with found.counted():
            # as `propose` goes round
            take_over(search)
            assert search.made
            so_far(search)
            assert search.goal.space(search.records, search.spent_limits)
            assert step(search, space, proposer)
        now = search.journal.study.get_trials(deepcopy=False)
        found.written = len(now) - len(before)
        told.append(found)
    return told[1:]


def line(*cells: object) -> str:
    """A row of the table."""
    return f"| {' | '.join(map(str, cells))} |"


def told(name: str, trials: int, what: str, found: Sequence[Traffic]) -> str:
    """The middle of some."""
    return line(
        *(name, f"{trials:,}", what),
        *(f"{median(each.written for each in found):.0f}",),
        *(f"{median(each.statements for each in found):,.0f}",),
        *(f"{median(each.bytes for each in found) / 1000:,.0f}",),
        *(f"{median(each.seconds for each in found):.2f}",),
        *(f"{median(each.passed for each in found):.2f}",),
    )


def main() -> None:
    """Print the table."""
    print(line(*COLUMNS))
    print(line(*("---" for _ in COLUMNS)))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("SQLite", "PostgreSQL"):
            url = f"sqlite:///{Path(folder)}/kept.db"
            url = url if name == "SQLite" else shared_server().new_url()
            for trials in SIZES:
                filled(url, trials)
                print(told(name, trials, "opening", [open_all(url) for _ in range(3)]))
                print(told(name, trials, "a step", steps(url)), flush=True)


if __name__ == "__main__":
    main()
