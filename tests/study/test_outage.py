from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.errors import BusyError, GoneError, StudyError
from allocator.search import replies
from allocator.search.run import baselines
from allocator.space.model import ModelSpace
from allocator.study import outage
from allocator.study.journal import Journal
from allocator.study.recommendations import keep_recommendation, recommendation
from allocator.study.unsent import Unsent
from tests.searches import asked_for, runs, score, search_of
from tests.study.outages import away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells"}
RECOMMENDED = {
    **{name: {"score": 70.0} for name in ("recommended", "full_precision")},
    "front": [],
}
# does not fit into one value of a database
LONG = [f"{at} {at * 7919 % 104729}" for at in range(60_000)]


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), (Choice(2, "awq"), Choice(16)), Budget(16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "storage").mkdir()
    return tmp_path / "storage"


@pytest.fixture(params=["sqlite:///{}/x.db", "{}/x.log"])
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    return str(request.param).format(folder)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """Files of what could not be written."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return lambda: list((tmp_path / "allocate" / "unsent").glob("*.json"))


def opened(url: str, timeout: float = 0.1) -> Journal:
    return Journal.create(url, "first", "identity", {}, timeout)


def states(journal: Journal) -> list[str]:
    return [trial.state.name for trial in journal.study.trials]


@pytest.mark.usefixtures("kept")
def test_a_storage_that_comes_back_is_waited_for_and_told_once(
    url: str, folder: Path, space: ModelSpace
) -> None:
    journal = opened(url, 20.0)
    with away(folder, 0.5):
        number = journal.begin(space, space.smallest, PROPOSAL)
    with away(folder, 0.5):
        journal.complete(number, 70.0, [69.0, 71.0])
    with away(folder, 0.5):
        journal.set_attribute("long", LONG)
    with away(folder, 0.5):
        assert journal.attribute("long") == LONG
    assert states(journal) == ["COMPLETE"]
    assert list(journal.sample_scores(space).values()) == [(69.0, 71.0)]


def test_what_was_finished_is_kept_and_handed_in_at_the_next_start(
    url: str, folder: Path, space: ModelSpace, kept: Callable[[], list[Path]]
) -> None:
    journal = opened(url)
    number = journal.begin(space, space.smallest, PROPOSAL)
    with away(folder):
        journal.complete(number, 70.0, [69.0, 71.0])
        journal.set_attribute("long", LONG)
        journal.set_attribute("a", {"found": 1})
        with pytest.raises(BusyError) as refused:
            journal.entries(space)
    (file,) = kept()
    said = str(refused.value)
    assert "was not there for 0 s (" in said
    assert "): put it back where it was, then give the same command again" in said
    assert said.endswith(
        "; 1 score and 2 other results that could not be written are kept in "
        f"{file} and handed in then"
    )
    assert "\n" not in said
    # plain JSON, which anybody can read
    assert json.loads(file.read_text())["study"] == "first"
    for _ in range(2):
        again = opened(url)
        assert states(again) == ["COMPLETE"]
        (record,) = again.records(space)
        assert (record.score, record.kind, record.budget) == (70.0, "proposal", "4")
        assert list(again.sample_scores(space).values()) == [(69.0, 71.0)]
        assert (again.attribute("long"), again.attribute("a")) == (LONG, {"found": 1})
        assert kept() == []


def test_a_storage_that_is_back_in_time_ends_nothing(
    url: str,
    folder: Path,
    space: ModelSpace,
    kept: Callable[[], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outage, "AGAIN", 0.0)
    journal = opened(url)
    number = journal.begin(space, space.smallest, PROPOSAL)
    with away(folder):
        journal.complete(number, 70.0)
        journal.set_attribute("a", 1)
        # what this process has finished it knows meanwhile
        assert journal.attribute("a") == 1
        journal.set_attribute("a", 2)
    assert len(kept()) == 1
    assert [entry.score for entry in journal.entries(space)] == [70.0]
    assert journal.attribute("a") == 2
    assert kept() == []


def test_nothing_newer_is_written_over(
    url: str, folder: Path, space: ModelSpace, kept: Callable[[], list[Path]]
) -> None:
    journal = opened(url)
    journal.set_attribute("a", 1)
    journal.set_attribute("b", 1)
    number = journal.begin(space, space.smallest, PROPOSAL)
    with away(folder):
        for name in "abc":
            journal.set_attribute(name, 2)
        journal.set_attribute("b", 3)
        journal.complete(number, 70.0)
    # another process gave the trial up, measured it, and knew better of a and c
    other = Journal.load(url, "first")
    other.fail(number)
    other.complete(other.begin(space, space.smallest, PROPOSAL), 71.0)
    other.set_attribute("a", 4)
    other.set_attribute("c", 4)
    again = opened(url)
    assert [again.attribute(name) for name in "abc"] == [4, 3, 4]
    assert [entry.score for entry in again.entries(space)] == [None, 71.0]
    assert kept() == []


def test_a_trial_that_was_given_up_meanwhile_is_recorded_after_all(
    url: str, folder: Path, space: ModelSpace, kept: Callable[[], list[Path]]
) -> None:
    journal = opened(url)
    number = journal.begin(space, space.smallest, PROPOSAL)
    with away(folder):
        journal.complete(number, 70.0, [70.0])
    Journal.load(url, "first").fail(number)
    assert len(kept()) == 1
    again = opened(url)
    assert states(again) == ["FAIL", "COMPLETE"]
    assert list(again.sample_scores(space).values()) == [(70.0,)]


def test_a_database_that_was_restored_from_before_the_trial_gets_its_score(
    folder: Path, tmp_path: Path, space: ModelSpace, kept: Callable[[], list[Path]]
) -> None:
    url = f"sqlite:///{folder}/x.db"
    journal = opened(url)
    shutil.copytree(folder, tmp_path / "copy")
    number = journal.begin(space, space.smallest, PROPOSAL)
    with away(folder):
        journal.complete(number, 70.0, [70.0])
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)
    again = opened(url)
    (record,) = again.records(space)
    assert (record.score, record.applied) == (70.0, "cells")
    assert kept() == []


@pytest.mark.usefixtures("kept")
def test_what_a_kill_leaves_between_two_steps_is_not_written_twice(
    url: str, folder: Path, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(url)
    number = journal.begin(space, space.smallest, PROPOSAL)
    with away(folder):
        journal.set_attribute("a", 1)
        journal.complete(number, 70.0, [70.0])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Unsent, "drop", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                opened(url)
    again = opened(url)
    assert (states(again), again.attribute("a")) == (["COMPLETE"], 1)


def test_a_study_that_was_deleted_keeps_nothing(
    url: str, space: ModelSpace, kept: Callable[[], list[Path]]
) -> None:
    journal = opened(url)
    journal.begin(space, space.smallest, PROPOSAL)
    storage = Journal.load(url, "first").study._storage
    optuna.delete_study(storage=storage, study_name="first")
    with pytest.raises(GoneError):
        journal.set_attribute("a", 1)
    assert kept() == []


def test_what_another_measured_is_not_handed_in(
    url: str, folder: Path, kept: Callable[[], list[Path]]
) -> None:
    journal = opened(url)
    with away(folder):
        journal.set_attribute("a", 1)
    storage = Journal.load(url, "first").study._storage
    optuna.delete_study(storage=storage, study_name="first")
    other = Journal.create(url, "first", "another identity", {})
    assert other.attribute("a") is None
    assert len(kept()) == 1


def test_a_file_that_cannot_be_read_is_named(
    url: str, folder: Path, kept: Callable[[], list[Path]]
) -> None:
    journal = opened(url)
    with away(folder):
        journal.set_attribute("a", 1)
    (file,) = kept()
    for text in ("{", '{"layout": 2}', "[]"):
        file.write_text(text)
        with pytest.raises(StudyError) as refused:
            opened(url)
        assert str(refused.value).startswith(
            f"{file} holds what could not be written into study 'first', and cannot "
            "be read ("
        )
        assert "move it away" in str(refused.value)
    file.unlink()
    opened(url)


def test_where_it_cannot_be_kept_either_that_is_said(
    url: str, folder: Path, tmp_path: Path, kept: Callable[[], list[Path]]
) -> None:
    journal = opened(url)
    shutil.rmtree(tmp_path / "allocate")
    (tmp_path / "allocate").write_text("no folder")
    with away(folder), pytest.raises(BusyError) as refused:
        journal.set_attribute("a", 1)
    assert "; a result could not be written, nor could it be kept in" in str(
        refused.value
    )
    assert kept() == []


def test_replies_of_batches_are_kept(
    url: str,
    folder: Path,
    kept: Callable[[], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "EVERY", 0.0)
    keeper = replies.KeptReplies(opened(url), lambda *_: None)
    with away(folder):
        for count in (1, 2):
            keeper.tell("a set", ["yes"] * count, count - 1)
    assert len(kept()) == 1
    again = replies.KeptReplies(opened(url), lambda *_: None)
    assert again.before("a set") == (["yes", "yes"], 1)


@pytest.mark.usefixtures("kept")
def test_a_recommendation_is_kept(url: str, folder: Path) -> None:
    journal = opened(url)
    found = SimpleNamespace(to_json=lambda: RECOMMENDED)
    with away(folder):
        keep_recommendation(journal, "4", found, {"a": 1})  # type: ignore[arg-type]
        # nor does the search end as if nothing were wrong
        with pytest.raises(BusyError, match="2 results that could not be written are"):
            journal.describe("accuracy", {"recommended": "it"})
    again = recommendation(opened(url))
    assert again == {"found": RECOMMENDED, "plan": {"a": 1}}


class Stopping:
    """Makes the storage go while the third allocation is scored."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def __call__(self, allocation: Allocation) -> float:
        self.count += 1
        if self.count == 3:
            self.folder.rename(self.folder.with_name("gone"))
        return score(allocation)


def measured(search: Search) -> list[tuple[str, float, str | None]]:
    found = search.journal.records(search.setup.space)
    return [(r.allocation.digest, r.score, r.kind) for r in found]


@pytest.mark.usefixtures("kept")
def test_an_outage_in_the_middle_of_a_search_loses_and_doubles_nothing(
    toy: ModelSpec, url: str, folder: Path, tmp_path: Path
) -> None:
    asked = asked_for(rungs=False, storage_timeout=0.1)
    whole = search_of(toy, f"{tmp_path}/whole.log", asked)
    baselines(whole)
    search = search_of(toy, url, asked)
    search.journal = opened_as(search, url)
    search.bench.scored = Stopping(folder)  # type: ignore[attr-defined]
    with pytest.raises(BusyError, match="1 score that could not be written is kept in"):
        baselines(search)
    folder.with_name("gone").rename(folder)
    again = search_of(toy, url, asked)
    baselines(again)
    assert measured(again) == measured(whole)
    # what was scored is not scored again
    assert runs(search) + runs(again) == runs(whole)
    assert states(again.journal) == states(whole.journal)


def opened_as(search: Search, url: str) -> Journal:
    """The study of a search that waits for a tenth of a second."""
    return Journal.create(url, "study", "identity", search.setup.asked.to_json(), 0.1)
