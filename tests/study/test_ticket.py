"""Of all who begin to measure one allocation at once, one does."""

from __future__ import annotations

import json
import subprocess
import sys
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.spec import Group, Linear, ModelSpec
from allocator.report.data import trials_of
from allocator.space.model import ModelSpace
from allocator.study.journal import Journal
from allocator.study.proposed import proposed_in
from allocator.study.trials import LOST, begin_trial

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from tests.databases import Server

CHOICES = (Choice(2, "awq"), Choice(4, "awq"), Choice(16))
PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells", "limit": 4.0}
# allocations that all begin in the same order
MANY = 12


def small_space() -> ModelSpace:
    groups = tuple(
        Group(f"language.{at}.all", (Linear(f"l{at}", "language", at, "ff", 64, 64),))
        for at in range(3)
    )
    spec = ModelSpec("small", 3 * 4096 + 100, groups, ())
    return ModelSpace(spec, Scheme(), CHOICES, Budget(16.0))


def many(space: ModelSpace) -> list[Allocation]:
    keys = space.keys
    return [
        space.full.replace({keys[0]: a, keys[1]: b, keys[2]: c})
        for a in CHOICES
        for b in CHOICES
        for c in CHOICES[:2]
    ][:MANY]


def hammer(url: str) -> list[str]:
    """Begin each, and complete those that are ours; returns which these were."""
    space, won = small_space(), []
    journal = Journal.load(url, "study")
    for place, allocation in enumerate(many(space)):
        number = journal.begin(space, allocation, PROPOSAL)
        if number is not None:
            won.append(allocation.digest)
            journal.complete(number, float(place))
    return won


@pytest.fixture(params=["sqlite", "postgres", "log"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        return server.new_url()
    known = {"sqlite": f"sqlite:///{tmp_path}/x.db", "log": f"{tmp_path}/x.log"}
    return known[request.param]


def check(url: str, each: list[list[str]]) -> None:
    space = small_space()
    wanted = [allocation.digest for allocation in many(space)]
    assert sorted(name for won in each for name in won) == sorted(wanted)
    journal = Journal.load(url, "study")
    assert sorted(r.score for r in journal.records(space)) == list(range(MANY))
    found = journal.counts(space, "4")
    assert found == {"running": 0, "complete": MANY, "pruned": 0, "failed": 0}
    assert journal.made(space, "4") == MANY


def test_processes_that_begin_the_same_measure_each_once(url: str) -> None:
    Journal.create(url, "study", "identity", {})
    code = "import sys, json; from tests.study.test_ticket import hammer; "
    code += "sys.stdin.readline(); print(json.dumps(hammer(sys.argv[1])))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    check(url, [json.loads(process.communicate()[0]) for process in processes])


def test_threads_that_begin_the_same_at_one_moment_measure_each_once(url: str) -> None:
    Journal.create(url, "study", "identity", {})
    space, barrier = small_space(), Barrier(3)
    won: list[list[str]] = [[], [], []]

    def work(mine: list[str]) -> None:
        journal = Journal.load(url, "study")
        for place, allocation in enumerate(many(space)):
            barrier.wait(60)
            number = journal.begin(space, allocation, PROPOSAL)
            if number is not None:
                mine.append(allocation.digest)
                journal.complete(number, float(place))

    threads = [Thread(target=work, args=(mine,)) for mine in won]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(url, won)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(f"sqlite:///{tmp_path}/x.db", "study", "identity", {})


def test_who_came_second_is_counted_nowhere(journal: Journal) -> None:
    space = small_space()
    first = journal.begin(space, space.full, PROPOSAL)
    assert journal.begin(space, space.full, PROPOSAL) is None
    (entry,) = journal.entries(space)
    assert entry.number == first
    assert journal.counts(space, "4")["failed"] == 0
    assert journal.made(space, "4") == 1
    assert len(proposed_in(journal, space)) == len(trials_of(journal, space)) == 1
    assert not journal.failures(space)
    # what finished counts as what runs does
    journal.complete(0, 90.0)
    assert journal.begin(space, space.full, PROPOSAL) is None
    states = [trial.state for trial in journal.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]


def test_what_was_given_up_or_passed_over_may_be_begun_again(journal: Journal) -> None:
    space = small_space()
    journal.add_pruned(space, space.full, {"kind": "candidate"})
    assert journal.begin(space, space.full, PROPOSAL) == 1
    journal.fail(1)
    assert journal.begin(space, space.full, PROPOSAL) == 2
    journal.fail(2, "scores nothing")
    # for good
    assert journal.begin(space, space.full, PROPOSAL) is None


def test_who_dies_before_it_withdraws_is_given_up(journal: Journal) -> None:
    """Killed between the write that begins a trial and the look at the others."""
    space = small_space()
    assert journal.begin(space, space.full, PROPOSAL) == 0
    begin_trial(journal._trials, space, space.full, PROPOSAL)
    assert journal.release_stale() == [0, 1]
    assert journal.begin(space, space.full, PROPOSAL) == 2


def test_a_trial_that_was_withdrawn_is_marked_before_it_is_closed(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, storage = small_space(), journal.study._storage
    journal.begin(space, space.full, PROPOSAL)

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage, "set_trial_state_values", killed)
        with pytest.raises(KeyboardInterrupt):
            journal.begin(space, space.full, PROPOSAL)
    assert journal.study.trials[1].system_attrs[LOST]
    assert [entry.number for entry in journal.entries(space)] == [0]
    assert [trial.number for trial in journal.unknown()] == []
