"""Run: pytest tests/study/test_in_place.py"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.report.data import trials_of
from allocator.space.model import ModelSpace
from allocator.study.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec

CHOICES = (Choice(2, "awq"), Choice(4, "awq"), Choice(16))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), CHOICES, Budget(4.0))


def before(allocation: Allocation) -> str:
    return f"{allocation.digest} as it was"


def after(allocation: Allocation) -> str:
    """The cells of one group at 2 bits were made anew."""
    changed = allocation["connector.all.all"] == Choice(2, "awq")
    return f"{allocation.digest} anew" if changed else before(allocation)


@pytest.fixture
def journal(url: str, space: ModelSpace) -> Journal:
    """Two proposals measured: one at 2 bits everywhere, one with other bits there."""
    journal = Journal.create(url, "study", "identity", {})
    for score, allocation in ((60.0, space.smallest), (70.0, other(space))):
        about = {"kind": "proposal", "budget": "4", "applied": before(allocation)}
        number = journal.begin(space, allocation, about)
        journal.complete(number, score, (score, score))
    return journal


def other(space: ModelSpace) -> Allocation:
    return space.smallest.replace({"connector.all.all": Choice(4, "awq")})


def test_scores_of_cells_that_are_there_stand(
    journal: Journal, space: ModelSpace
) -> None:
    journal.stand_on(space, before)
    assert [r.score for r in journal.records(space)] == [60.0, 70.0]
    assert journal.made(space, "4") == 2


def test_a_score_of_cells_that_are_gone_is_no_measurement(
    journal: Journal, space: ModelSpace
) -> None:
    journal.stand_on(space, after)
    assert [r.score for r in journal.records(space)] == [70.0]
    assert journal.taken(space) == {other(space).digest}
    assert journal.sample_scores(space).keys() == {other(space).digest}
    assert journal.made(space, "4") == 1
    counts = journal.counts(space, "4")
    assert (counts["complete"], counts["failed"]) == (1, 0)


def test_it_is_measured_anew_and_both_are_shown(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    journal.stand_on(space, after)
    about = {"kind": "proposal", "budget": "4", "applied": after(space.smallest)}
    journal.complete(journal.begin(space, space.smallest, about), 65.0)
    # those who only read, without a bank, see the same
    for each in (journal, Journal.load(url, "study")):
        assert [r.score for r in each.records(space)] == [70.0, 65.0]
        rows = trials_of(each, space)
        assert [row["state"] for row in rows] == ["superseded", "complete", "complete"]
        assert [row["score"] for row in rows] == [None, 70.0, 65.0]
        assert rows[0]["past"] == 60.0


def test_a_score_stands_again_where_its_cells_are_back(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    journal.stand_on(space, after)
    again = Journal.create(url, "study", "identity", {})
    again.stand_on(space, before)
    for each in (again, Journal.load(url, "study")):
        assert [r.score for r in each.records(space)] == [60.0, 70.0]


def test_what_was_only_looked_at_has_no_cells_to_compare(
    journal: Journal, space: ModelSpace
) -> None:
    journal.add_pruned(space, space.smallest, {"kind": "candidate", "budget": "4"})
    journal.stand_on(space, after)
    assert [e.superseded for e in journal.entries(space)] == [True, False, False]
