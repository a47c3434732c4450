"""Clocks that are set back or forward while several processes work on a study."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.space.model import ModelSpace
from allocator.study import owners
from allocator.study.journal import Journal
from allocator.study.owners import EXPIRES, LEASE, RENEWED, SKEW, Leases

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec

HOUR = 3600.0
PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells"}


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), (Choice(2, "awq"), Choice(16)), Budget(16))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/x.db"


class Watcher:
    """A process elsewhere that looks at a study, by clocks of its own.

    One only rises, the other says what day it is, and is wrong by `off` seconds.
    """

    def __init__(self, url: str) -> None:
        self.passed, self.off, self.since = 0.0, 0.0, time.time()
        study = Journal.create(url, "first", "identity", {}).study
        leases = Leases(lambda: self.passed, self.today)
        self.journal = Journal(study, url, leases)

    def today(self) -> float:
        return self.since + self.passed + self.off


def begun_elsewhere(url: str, space: ModelSpace) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "another")
        journal = Journal.create(url, "first", "identity", {})
        return journal.begin(space, space.smallest, PROPOSAL)


def renew(watcher: Watcher, number: int, stamp: float) -> None:
    study = watcher.journal.study
    trial = study.trials[number]._trial_id
    study._storage.set_trial_system_attr(trial, LEASE, stamp)


@pytest.mark.parametrize("off", [HOUR, -HOUR, 14 * HOUR, -14 * HOUR])
def test_a_living_owner_is_seen_to_live_by_whoever_has_another_time_of_day(
    url: str, space: ModelSpace, off: float
) -> None:
    number = begun_elsewhere(url, space)
    watcher = Watcher(url)
    watcher.off = off
    # its stamp looks hours old, or hours ahead: that alone says nothing
    assert watcher.journal.release_stale() == []
    for beat in range(1, 8):
        watcher.passed = beat * RENEWED
        renew(watcher, number, watcher.since + watcher.passed)
        assert watcher.journal.release_stale() == []
    assert watcher.journal.unknown() == []


@pytest.mark.parametrize("off", [HOUR, -HOUR])
def test_a_clock_that_is_set_while_it_works_ends_no_lease(
    url: str, space: ModelSpace, off: float
) -> None:
    number = begun_elsewhere(url, space)
    watcher = Watcher(url)
    for beat in range(1, 9):
        watcher.passed = beat * RENEWED
        # the owner's clock is set at first, the watcher's a minute later
        renew(watcher, number, watcher.since + watcher.passed + off)
        watcher.off = off if beat > 4 else 0.0
        assert watcher.journal.release_stale() == []
    assert watcher.journal.unknown() == []


@pytest.mark.parametrize("off", [0.0, HOUR, -HOUR])
def test_a_dead_owner_is_known_to_be_dead_after_a_minute_whatever_the_time_of_day(
    url: str, space: ModelSpace, off: float
) -> None:
    number = begun_elsewhere(url, space)
    watcher = Watcher(url)
    watcher.off = off
    for passed in (0.0, EXPIRES):
        watcher.passed = passed
        assert watcher.journal.release_stale() == []
    watcher.passed += 1
    assert watcher.journal.release_stale() == [number]


@pytest.mark.parametrize("lives", [True, False])
def test_an_owner_that_could_not_renew_while_the_storage_was_away_gets_its_time(
    url: str, space: ModelSpace, lives: bool
) -> None:
    number = begun_elsewhere(url, space)
    watcher = Watcher(url)
    assert watcher.journal.release_stale() == []
    # ten minutes in which nobody could be told anything
    watcher.passed = 600.0
    assert watcher.journal.release_stale() == []
    watcher.passed += 2 * RENEWED
    if lives:
        renew(watcher, number, watcher.since + watcher.passed)
    assert watcher.journal.release_stale() == []
    watcher.passed += 1
    assert watcher.journal.release_stale() == ([] if lives else [number])


def test_only_what_no_wrong_clock_explains_is_dead_at_first_sight(
    url: str, space: ModelSpace
) -> None:
    number = begun_elsewhere(url, space)
    watcher = Watcher(url)
    watcher.off = SKEW + 1
    assert watcher.journal.release_stale() == [number]


AN_HOUR_OFF = """
import sys, time
from allocator.study import owners
from allocator.study.journal import Journal
owners.RENEWED = 0.2
owners.place = lambda: "elsewhere"
journal = Journal.load(sys.argv[1], "first")
trial = journal.study.trials[0]
owner = str(owners.new_owner())
journal.study._storage.set_trial_system_attr(trial._trial_id, "owner", owner)
with owners.renewed(sys.argv[1], trial._trial_id, owner):
    print(time.time(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not there")
@pytest.mark.parametrize("off", ["-1h", "+1h"])
def test_a_process_whose_clock_is_an_hour_off_keeps_its_trial(
    url: str, space: ModelSpace, off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(url, "first", "identity", {})
    journal.begin(space, space.smallest, PROPOSAL)
    monkeypatch.setattr(owners, "EXPIRES", 6.0)
    command = ["faketime", "-f", off, sys.executable, "-c", AN_HOUR_OFF, url]
    pipe = subprocess.PIPE
    # of a machine whose clock is set, the one that only rises is not
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            theirs = float(process.stdout.readline())
            assert abs(abs(time.time() - theirs) - HOUR) < 60
            ends = time.monotonic() + 7
            while time.monotonic() < ends:
                assert journal.release_stale() == []
                time.sleep(0.3)
            assert journal.unknown() == []
        finally:
            process.stdin.close()
            process.wait(20)
    # what it did not renew any more
    ends = time.monotonic() + 20
    while not (found := journal.release_stale()) and time.monotonic() < ends:
        time.sleep(0.3)
    assert found == [0]
