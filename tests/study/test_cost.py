"""What a step of a search asks of a database does not grow with its study."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from allocator.study.journal import Journal
from allocator.study.looks import Looks
from studies.scale.filled import Filler, model
from tests.searches import asked_for, search_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.search.running import Search
    from tests.databases import Server

ABOUT = {"kind": "proposal", "budget": "4", "applied": "cells", "limit": 4.0}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        return server.new_url()
    return f"sqlite:///{tmp_path}/x.db"


@contextmanager
def statements() -> Iterator[Counter[str]]:
    """What is asked of all databases, and how often."""
    found = Counter[str]()

    def note(*given: Any) -> None:
        found[given[2]] += 1

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def filled(url: str, trials: int) -> Search:
    search = search_of(model(), url, asked_for())
    engine = sa.create_engine(url)
    Filler(search, engine).fill(trials)
    engine.dispose()
    return search


def opening(url: str, search: Search) -> Counter[str]:
    space = search.setup.space
    with statements() as found:
        journal = Journal.load(url, "study")
        assert journal.records(space)
        assert Looks.recalled(journal.looks(space)).looks
    return found


def a_step(url: str, search: Search, place: int) -> Counter[str]:
    """What a step does, once everything was read, and another wrote meanwhile."""
    space = search.setup.space
    journal, other = (Journal.load(url, "study") for _ in range(2))
    allocation = space.full.replace({space.keys[place]: space.choices[0]})
    for each in (journal, other):
        each.entries(space)
        each.attribute("any")
    other.set_attribute("another", [1, 2])
    with statements() as found:
        journal.release_stale()
        assert journal.attribute("another") == [1, 2]
        journal.set_attribute(f"own {place}", 1)
        assert len(journal.records(space)) + len(journal.taken(space)) > 1
        look = (allocation, ("divergence", 32), 0.5)
        journal.keep_looks(space, allocation.digest, "4", [look])
        number = journal.begin(space, allocation, ABOUT)
        assert number is not None
        journal.complete(number, 50.0, [0.0, 1.0])
        assert journal.sample_scores(space)
    return found


def test_no_statement_is_added_by_what_is_there_already(url: str) -> None:
    few = filled(url, 40)
    opened, done = opening(url, few), a_step(url, few, 0)
    many = filled(url, 1200)
    assert len(Journal.load(url, "study").entries(many.setup.space)) == 1200
    # Optuna asks for the rows of 500 trials at a time, which this program does not
    assert opening(url, many) == opened
    assert a_step(url, many, 1) == done


def test_of_what_was_read_no_row_is_read_again(url: str) -> None:
    search = filled(url, 40)
    journal = Journal.load(url, "study")
    space = search.setup.space
    journal.looks(space), journal.entries(space), journal.attribute("any")
    with statements() as found:
        journal.attribute("any")
        journal.entries(space)
    told = [text for text in found if "attributes" in text or "params" in text]
    # of the attributes the token alone
    assert [found[text] for text in told] == [1]
    assert sum(found.values()) == 3
