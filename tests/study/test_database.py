"""All trials read at once are the trials that Optuna reads one by one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.space.model import ModelSpace
from allocator.study.journal import Journal
from allocator.study.storage import open_storage

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec
    from tests.databases import Server

CHOICES = (Choice(2, "awq"), Choice(4, "awq"), Choice(16))
PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells", "limit": 4.0}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        return server.new_url()
    return f"sqlite:///{tmp_path}/x.db"


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), CHOICES, Budget(4.0))


@pytest.fixture
def journal(url: str, space: ModelSpace) -> Journal:
    """Each state that a trial may be in; the first one still runs."""
    journal = Journal.create(url, "study", "identity", {})
    keys = space.keys
    some = [space.full.replace({key: CHOICES[0]}) for key in keys[:5]]
    journal.begin(space, some[0], PROPOSAL)
    journal.complete(number_of(journal, space, some[1]), 71.5, [1.0, float("inf")])
    journal.complete(number_of(journal, space, some[2]), float("-inf"))
    journal.fail(number_of(journal, space, some[3]), "it broke")
    journal.add_pruned(space, some[4], {"kind": "candidate", "looks": [1, None]})
    return journal


def number_of(journal: Journal, space: ModelSpace, allocation: Any) -> int:
    number = journal.begin(space, allocation, PROPOSAL)
    assert number is not None
    return number


def optunas(url: str, name: str = "study") -> list[optuna.trial.FrozenTrial]:
    """What Optuna reads, with nothing of ours before it."""
    return optuna.load_study(study_name=name, storage=url).get_trials()


def ours(url: str) -> list[optuna.trial.FrozenTrial]:
    journal = Journal.load(url, "study")
    found = journal._trials.all()
    storage: Any = journal._trials.database
    # so it was read ahead, and not by Optuna
    assert storage.storage._studies[storage.study].trials
    return found


@pytest.mark.usefixtures("journal")
def test_they_are_equal_in_everything(url: str) -> None:
    assert len(optunas(url)) == 5
    for one, other in zip(ours(url), optunas(url), strict=True):
        assert vars(one) == vars(other)


def test_what_changes_later_is_seen(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    reader = Journal.load(url, "study")
    before = [entry.state for entry in reader.entries(space)]
    assert before[0] == TrialState.RUNNING
    journal.complete(0, 60.0)
    journal.complete(number_of(journal, space, space.full), 90.0)
    assert reader.entries(space)[0].score == 60.0
    assert reader.entries(space)[-1].score == 90.0
    for one, other in zip(reader._trials.all(), optunas(url), strict=True):
        assert vars(one) == vars(other)


def test_another_study_beside_it_is_none_of_it(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    other = Journal.create(url, "other", "identity", {})
    other.complete(number_of(other, space, space.full), 90.0)
    assert len(Journal.load(url, "study").entries(space)) == len(optunas(url)) == 5
    assert [e.score for e in Journal.load(url, "other").entries(space)] == [90.0]
    assert journal.name == "study"


def test_trials_that_are_not_as_ours_are_read_by_optuna(url: str) -> None:
    study = optuna.create_study(storage=url, study_name="study", direction="maximize")
    for high in (1.0, 2.0):
        # one name, and two ranges
        told_as = {"x": optuna.distributions.FloatDistribution(0.0, high)}
        about = {"distributions": told_as, "intermediate_values": {1: 0.5}}
        study.add_trial(
            optuna.trial.create_trial(params={"x": 0.5}, value=1.0, **about)
        )
    found = Journal.load(url, "study")._trials.all()
    for one, other in zip(found, optunas(url), strict=True):
        assert vars(one) == vars(other)


def test_times_are_those_of_this_place(
    journal: Journal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    del journal
    read = []
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        read.append((ours(url)[0].datetime_start, optunas(url)[0].datetime_start))
    monkeypatch.undo()
    time.tzset()
    (first, wanted), (second, there) = read
    assert (first, second) == (wanted, there)
    assert first is not None
    assert second is not None
    assert second - first == timedelta(hours=9)


@pytest.mark.usefixtures("journal")
def test_few_statements_read_them_all(url: str) -> None:
    journal = Journal.load(url, "study")
    told: list[str] = []

    def note(*given: Any) -> None:
        told.append(given[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        assert len(journal._trials.all()) == 5
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    # 8 here, and 7 of Optuna's for what runs and may have changed
    assert len(told) <= 16
    assert open_storage(url).get_all_studies()
