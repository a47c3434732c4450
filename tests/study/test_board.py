"""Records of processes at work: who leads, who serves, what they tell each other."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from allocator.core.errors import GoneError
from allocator.study import board as boards
from allocator.study.board import (
    DONE,
    GOAL,
    LEADER,
    SAID,
    SERVES,
    STAGE,
    TOLD,
    WORKER,
    Board,
)
from allocator.study.journal import Journal
from allocator.study.owners import LEASE, OWNER, Leases, new_owner
from allocator.study.storage import study_names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["database", "log"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "log":
        return str(tmp_path / "studies.log")
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def board(url: str) -> Board:
    Journal.create(url, "study", "identity", {})
    return Board.open(url, "study", 10)


def elsewhere(board: Board, role: str, stamp: float, **about: str) -> int:
    """The record of a process on another host, renewed at a time."""
    owner = replace(new_owner(), host="far away")
    known = {**about, "role": role, OWNER: str(owner), LEASE: stamp}
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, system_attrs=known)
    key: int = board.storage.create_new_trial(board.study, trial)
    return key


def test_the_companion_is_no_study_of_anybody(board: Board, url: str) -> None:
    assert study_names(url) == ["study"]
    names = optuna.get_all_study_names(board.storage)
    assert sorted(names) == ["study", "study (at work)"]


def test_a_record_lasts_as_long_as_its_owner_is_at_work(board: Board) -> None:
    with board.record(LEADER, {GOAL: "4.0"}) as own:
        assert [each.key for each in board.living(LEADER)] == [own.key]
        assert board.living(WORKER) == []
        assert own.sentence.startswith("process ")
    assert board.living(LEADER) == []
    assert [each.about[GOAL] for each in board.ended()] == ["4.0"]


def test_what_one_writes_the_other_reads(board: Board, url: str) -> None:
    other = Board.open(url, "study", 10)
    with board.record(WORKER, {SERVES: "somebody"}) as own:
        other.set(own.key, TOLD, {"number": 1, "pieces": [1, 2]})
        assert board.read(own.key).letter(TOLD)["pieces"] == [1, 2]
        board.set(own.key, SAID, {"number": 1, "found": [3]})
        assert other.read(own.key).letter(SAID) == {"number": 1, "found": [3]}


def test_a_large_letter_arrives_and_leaves_no_parts_behind(board: Board) -> None:
    with board.record(WORKER, {}) as own:
        # no two lines are alike: packing saves little
        large = [str(n * 7919) * 20 for n in range(20_000)]
        board.set(own.key, TOLD, {"number": 1, "pieces": large})
        assert board.read(own.key).letter(TOLD)["pieces"] == large
        board.set(own.key, TOLD, {"number": 2, "pieces": []})
        left = board.read(own.key)
        assert left.letter(TOLD) == {"number": 2, "pieces": []}
        parts = [v for name, v in left.about.items() if name.startswith("part:")]
        assert parts
        assert not any(parts)


def test_one_elsewhere_that_is_not_heard_of_counts_as_gone(board: Board) -> None:
    now = [1000.0]
    board.leases = Leases(lambda: now[0], lambda: time.time())
    key = elsewhere(board, WORKER, time.time())
    assert [each.key for each in board.living(WORKER)] == [key]
    now[0] += 59
    assert board.living(WORKER)
    now[0] += 2
    assert board.living(WORKER) == []


def test_what_is_taken_off_the_board_may_be_taken_off_twice(board: Board) -> None:
    key = elsewhere(board, WORKER, time.time())
    board.remove(key)
    board.remove(key)
    assert board.read(key).is_dead


def test_the_last_takes_the_board_away_unless_something_is_left_undone(
    board: Board, url: str
) -> None:
    with board.record(LEADER, {GOAL: "a"}) as own:
        board.set(own.key, STAGE, DONE)
        board.clear()
        assert len(optuna.get_all_study_names(board.storage)) == 2
    with board.record(LEADER, {GOAL: "b"}):
        pass
    left = board.unfinished()
    assert left is not None
    assert left.about[GOAL] == "b"
    board.clear()
    with board.record(LEADER, {GOAL: "b"}) as own:
        board.set(own.key, STAGE, DONE)
    other = Board.open(url, "study", 10)
    board.clear()
    assert optuna.get_all_study_names(board.storage) == ["study"]
    with pytest.raises(GoneError):
        other.living(LEADER)


def test_of_those_that_ended_the_last_stage_is_known(board: Board) -> None:
    with board.record(LEADER, {GOAL: "a"}) as own:
        board.set(own.key, STAGE, DONE)
    (found,) = board.ended()
    assert (found.stage, found.about[GOAL]) == (DONE, "a")
    assert boards.BEGUN == "begun"
