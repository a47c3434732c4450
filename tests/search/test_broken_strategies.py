"""Strategies that break their promises: they end a search, with their name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.search.propose import propose
from allocator.strategies._base import Candidate
from tests.searches import FakeBench, Told, asked_for, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search


class Careless:
    """Leaves the budget."""

    offspring = 1

    def __init__(self, space: Any, seed: int, damage: Any) -> None:
        del seed, damage
        self.space = space

    def ask(self, known: Any, count: int) -> Any:
        del known, count
        return [Candidate(self.space.full)]


class Stubborn(Careless):
    """Knows one allocation."""

    def ask(self, known: Any, count: int) -> Any:
        del known, count
        return [Candidate(self.space.smallest)]


@pytest.fixture
def search(toy: ModelSpec, tmp_path: Path) -> Search:
    return search_of(toy, f"{tmp_path}/studies.log", asked_for())


def asked(search: Search, strategy: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a search says that is left to a strategy."""
    monkeypatch.setattr("allocator.search.propose.load", lambda *_: strategy)
    propose(search)
    assert isinstance(search.watch, Told)
    return search.watch.said


def test_what_does_not_fit_is_never_measured(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = asked(search, Careless, monkeypatch)
    assert (search.infeasible, search.made) == (1, 0)
    assert isinstance(search.bench, FakeBench)
    assert search.bench.runs == []
    assert any("evolution proposed what is over the budget" in line for line in said)


def test_a_strategy_that_repeats_itself_ends_the_search(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = asked(search, Stubborn, monkeypatch)
    assert search.made == 1
    assert any("evolution proposed again what is measured" in line for line in said)
