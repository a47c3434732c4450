from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.space.model import ModelSpace
from allocator.study import owners, storage
from allocator.study.journal import Journal
from allocator.study.owners import EXPIRES, LEASE, OWNER, SKEW, Leases, Owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.core.spec import ModelSpec

PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells"}


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), (Choice(2, "awq"), Choice(16)), Budget(16))


@pytest.fixture(params=["sqlite:///{}/x.db", "{}/x.log"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


class Time:
    """Clocks that tests put forward: one that only rises, and one of the day."""

    def __init__(self) -> None:
        self.seconds, self.offset = 0.0, time.time()

    def journal(self, url: str) -> Journal:
        """A study as a process sees it that keeps this time."""
        journal = Journal.create(url, "first", "identity", {})
        leases = Leases(lambda: self.seconds, lambda: self.offset + self.seconds)
        return Journal(journal.study, url, leases)


def states(journal: Journal) -> list[str]:
    return [trial.state.name for trial in journal.study.trials]


def elsewhere(patch: pytest.MonkeyPatch, host: str = "", place: str = "") -> None:
    """Be in another container: another host name, or another namespace."""
    if host:
        patch.setattr("socket.gethostname", lambda: host)
    if place:
        patch.setattr(owners, "place", lambda: place)


def begun_elsewhere(url: str, space: ModelSpace, **where: str) -> int:
    """A trial that was begun in another container, by a process of our number."""
    with pytest.MonkeyPatch.context() as patch:
        elsewhere(patch, **where)
        journal = Journal.create(url, "first", "identity", {})
        return journal.begin(space, space.smallest, PROPOSAL)


@pytest.mark.parametrize(
    "where",
    [{"host": "4f1c"}, {"place": "another namespace"}, {"host": "a", "place": "b"}],
)
def test_an_owner_elsewhere_is_dead_after_a_minute_without_a_sign(
    url: str, space: ModelSpace, where: dict[str, str]
) -> None:
    begun_elsewhere(url, space, **where)
    now = Time()
    journal = now.journal(url)
    assert journal.release_stale() == []
    now.seconds = EXPIRES - 1
    assert journal.release_stale() == []
    assert [trial.number for trial in journal.unknown()] == [0]
    now.seconds = EXPIRES + 1
    assert journal.release_stale() == [0]
    assert states(journal) == ["FAIL"]


def renew(journal: Journal, number: int, stamp: float) -> None:
    trial = journal.study.trials[number]._trial_id
    journal.study._storage.set_trial_system_attr(trial, LEASE, stamp)


@pytest.mark.parametrize("fast", [-50.0, 0.0, 300.0])
def test_an_owner_that_renews_its_lease_keeps_its_trial_however_clocks_disagree(
    url: str, space: ModelSpace, fast: float
) -> None:
    number = begun_elsewhere(url, space, host="4f1c")
    now = Time()
    journal = now.journal(url)
    for beat in range(8):
        renew(journal, number, now.offset + fast + 15 * beat)
        now.seconds = 40.0 * beat
        assert journal.release_stale() == []
    assert journal.unknown() == []
    now.seconds += EXPIRES
    assert journal.release_stale() == []
    now.seconds += 1
    assert journal.release_stale() == [number]


def test_a_lease_that_ran_out_long_ago_is_not_waited_for(
    url: str, space: ModelSpace
) -> None:
    number = begun_elsewhere(url, space, host="4f1c")
    now = Time()
    journal = now.journal(url)
    renew(journal, number, now.offset - SKEW - 1)
    assert journal.release_stale() == [number]


def test_a_trial_of_before_leases_expires_too(url: str, space: ModelSpace) -> None:
    number = begun_elsewhere(url, space, host="4f1c")
    now = Time()
    journal = now.journal(url)
    trial = journal.study.trials[number]._trial_id
    journal.study._storage.set_trial_system_attr(trial, OWNER, "elsewhere:17")
    now.seconds = EXPIRES - 1
    assert journal.release_stale() == []
    now.seconds = 2 * EXPIRES - 1
    assert journal.release_stale() == []
    now.seconds = 2 * EXPIRES
    assert journal.release_stale() == [number]


def test_a_process_whose_number_was_given_again_is_dead_at_once(
    url: str, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # its number is now that of our parent, which began at another time
    parent = os.getppid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: parent)
        patch.setattr(owners, "began", lambda pid: f"{pid} long ago")
        journal = Journal.create(url, "first", "identity", {})
        number = journal.begin(space, space.smallest, PROPOSAL)
    assert journal.release_stale() == [number]


def test_a_living_process_here_keeps_its_trial_without_renewing(
    url: str, space: ModelSpace
) -> None:
    # stuck in work that lets no thread run
    now = Time()
    journal = now.journal(url)
    number = journal.begin(space, space.smallest, PROPOSAL)
    with journal.at_work(number):
        now.seconds = 100 * EXPIRES
        assert journal.release_stale() == []
        assert journal.unknown() == []
    assert journal.release_stale() == [number]


@pytest.mark.parametrize("name", ["a/b:c|d", "", "host"])
def test_owners_are_read_as_they_were_written(name: str) -> None:
    owner = Owner(name.replace("|", ""), "place", 17, "123", "ab")
    assert Owner.read(str(owner)) == owner
    assert Owner.read("a-host:17").sentence == "process 17 on a-host"
    assert Owner.read("").pid == 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(owners, "RENEWED", 0.05)
    before = threading.enumerate()
    yield
    for thread in threading.enumerate():
        if thread.daemon and thread not in before:
            thread.join(2)


def stamps(journal: Journal, number: int, count: int) -> set[float]:
    """Stamps of a lease as they change."""
    found: set[float] = set()
    until = time.monotonic() + 20
    while len(found) < count and time.monotonic() < until:
        found.add(journal.study.trials[number].system_attrs[LEASE])
    return found


@pytest.mark.usefixtures("quick")
def test_a_lease_is_renewed_while_a_trial_is_measured(
    url: str, space: ModelSpace
) -> None:
    journal = Journal.create(url, "first", "identity", {})
    number = journal.begin(space, space.smallest, PROPOSAL)
    with journal.at_work(number):
        assert len(stamps(journal, number, 3)) == 3
    journal.complete(number, 1.0)
    assert states(journal) == ["COMPLETE"]


@pytest.mark.usefixtures("quick")
def test_a_storage_that_fails_a_while_ends_no_measurement(
    url: str, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(url, "first", "identity", {})
    number = journal.begin(space, space.smallest, PROPOSAL)
    opened, failing = storage.open_storage, [OSError("away"), ValueError("?")]

    def fails(*args: Any, **more: Any) -> Any:
        if failing:
            raise failing.pop()
        return opened(*args, **more)

    monkeypatch.setattr(owners, "open_storage", fails)
    with journal.at_work(number):
        assert len(stamps(journal, number, 2)) == 2
    assert failing == []


def test_what_others_gave_up_and_did_not_measure_is_kept_after_all(
    url: str, space: ModelSpace
) -> None:
    journal = Journal.create(url, "first", "identity", {})
    number = journal.begin(space, space.smallest, PROPOSAL)
    other = Journal.create(url, "first", "identity", {})
    other.study.tell(number, state=TrialState.FAIL)
    journal.complete(number, 70.0, [69.0, 71.0])
    (record,) = journal.records(space)
    assert (record.score, record.kind, record.budget) == (70.0, "proposal", "4")
    assert list(journal.sample_scores(space).values()) == [(69.0, 71.0)]
    assert states(journal) == ["FAIL", "COMPLETE"]


@pytest.mark.parametrize("finished", [False, True])
def test_what_others_took_over_is_theirs(
    url: str, space: ModelSpace, finished: bool
) -> None:
    journal = Journal.create(url, "first", "identity", {})
    number = journal.begin(space, space.smallest, PROPOSAL)
    other = Journal.create(url, "first", "identity", {})
    other.study.tell(number, state=TrialState.FAIL)
    again = other.begin(space, space.smallest, PROPOSAL)
    if finished:
        other.complete(again, 70.0)
    journal.complete(number, 70.0)
    assert len(journal.study.trials) == 2
    # nor is it a fault to give up what others gave up
    journal.fail(number)


KILLED = """
import os, sys, time
from allocator.study.journal import Journal
from tests.study.test_owners import PROPOSAL
url = sys.argv[1]
study = Journal.load(url, "first")
from allocator.study.trials import at_work
from allocator.study.owners import new_owner
trial = study.study.trials[0]
storage = study.study._storage
storage.set_trial_system_attr(trial._trial_id, "owner", str(new_owner()))
print("ready", flush=True)
time.sleep(600)
"""


def test_a_process_that_was_killed_here_is_dead_at_once(
    url: str, space: ModelSpace
) -> None:
    journal = Journal.create(url, "first", "identity", {})
    journal.begin(space, space.smallest, PROPOSAL)
    command = [sys.executable, "-c", KILLED, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert journal.release_stale() == []
        process.kill()
    assert journal.release_stale() == [0]
