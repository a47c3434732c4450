"""A PostgreSQL server that goes in the middle of a search, for a while or longer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import BusyError
from allocator.search.propose import propose
from allocator.search.run import baselines
from allocator.study.journal import Journal
from tests.searches import asked_for, runs, score, search_of
from tests.study.outages import closed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search
    from tests.databases import Server

__all__ = ["closed"]

pytestmark = pytest.mark.usefixtures("closed")


class Stopping:
    """Has something happen while the allocation of a number is scored."""

    def __init__(self, number: int, happens: Callable[[], object]) -> None:
        self.left, self.happens = number, happens

    def __call__(self, allocation: Allocation) -> float:
        self.left -= 1
        if self.left == 0:
            self.happens()
        return score(allocation)


def searched(search: Search) -> None:
    baselines(search)
    propose(search)


def measured(search: Search) -> list[tuple[str, float, str | None]]:
    found = search.journal.records(search.setup.space)
    return [(r.allocation.digest, r.score, r.kind) for r in found]


def whole(toy: ModelSpec, tmp_path: Path) -> Search:
    """The same search where nothing happens."""
    search = search_of(toy, f"{tmp_path}/whole.log", asked_for())
    searched(search)
    return search


@pytest.mark.slow
@pytest.mark.parametrize("number", [4, 9])
def test_half_a_minute_without_a_server_changes_nothing(
    toy: ModelSpec, postgres: Server, tmp_path: Path, number: int
) -> None:
    search = search_of(toy, postgres.new_url(), asked_for())

    def away() -> None:
        postgres.stop(crash=True)
        threading.Timer(30.0, postgres.start).start()

    search.bench.scored = Stopping(number, away)  # type: ignore[attr-defined]
    searched(search)
    usual = whole(toy, tmp_path)
    assert measured(search) == measured(usual)
    assert runs(search) == runs(usual)


@pytest.mark.parametrize("number", [4, pytest.param(9, marks=pytest.mark.slow)])
def test_a_search_goes_on_where_its_server_went_for_longer_than_it_waits(
    toy: ModelSpec, postgres: Server, tmp_path: Path, number: int
) -> None:
    url = postgres.new_url()
    search = search_of(toy, url, asked_for())
    told = search.setup.asked.to_json()
    search.journal = Journal.create(url, "study", "identity", told, 0.5)
    search.replies.journal = search.journal
    search.bench.scored = Stopping(number, postgres.stop)  # type: ignore[attr-defined]
    since = time.monotonic()
    with pytest.raises(BusyError) as refused:
        searched(search)
    assert time.monotonic() - since < 20
    assert "Connection refused): see that its server runs, and" in str(refused.value)
    assert "that could not be written" in str(refused.value)
    postgres.start()
    again = search_of(toy, url, asked_for())
    searched(again)
    usual = whole(toy, tmp_path)
    assert measured(again) == measured(usual)
    # nothing is scored a second time, nor looked at
    assert sorted(runs(search) + runs(again)) == sorted(runs(usual))
