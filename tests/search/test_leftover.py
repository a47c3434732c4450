from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState

from allocator.search import leftover
from allocator.search.leftover import note_dead, settle
from allocator.search.propose import propose
from allocator.search.run import baselines
from allocator.study import owners
from allocator.study.journal import Journal
from allocator.study.owners import EXPIRES, Leases
from tests.searches import FakeBench, Told, asked_for, runs, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


class KilledError(BaseException):
    """A process ends here, and does nothing any more."""


@dataclass
class Mortal(FakeBench):
    """A bench whose process is killed when it begins its `last` piece of work."""

    last: int = 10**9

    def score(self, allocation: Allocation, some: Any) -> Any:
        self._live()
        return super().score(allocation, some)

    def divergence(self, allocation: Allocation, some: Any, ahead: Any = None) -> float:
        self._live()
        return super().divergence(allocation, some, ahead)

    def _live(self) -> None:
        if len(self.runs) >= self.last:
            raise KilledError


def begun(
    toy: ModelSpec, url: str, bench: FakeBench | None = None, **options: Any
) -> Search:
    search = search_of(toy, url, asked_for(trials=4, **options), bench)
    note_dead(search)
    baselines(search)
    propose(search)
    settle(search)
    return search


def killed(toy: ModelSpec, url: str, last: int, **options: Any) -> list[Any]:
    """A search of a process that is killed; what it had done by then."""
    bench = Mortal(last=last)
    with pytest.MonkeyPatch.context() as patch:
        # what is dead gives up nothing
        patch.setattr(Journal, "fail", lambda *_: None)
        with pytest.raises(KilledError):
            begun(toy, url, bench, **options)
    return bench.runs


def outcome(search: Search) -> list[Any]:
    measured = [
        (r.allocation.digest, r.score, r.kind, r.limit, r.budget)
        for r in search.records
    ]
    space = search.setup.space
    looks = sorted((a.digest, k, v) for _, a, k, v in search.journal.looks(space))
    return [measured, looks]


@pytest.mark.parametrize("options", [{}, {"strategy": "surrogate"}, {"front": True}])
def test_a_search_that_was_killed_anywhere_is_the_search_that_was_not(
    toy: ModelSpec, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = begun(toy, f"{tmp_path}/whole.log", **options)
    total = len(runs(whole))
    assert total > 60
    for last in range(3, total, total // 4):
        url = f"{tmp_path}/{last}.log"
        before = killed(toy, url, last, **options)
        again = begun(toy, url, **options)
        assert outcome(again) == outcome(whole), last
        # one piece of work was under way, or the looks of the first rung
        assert len(before) + len(runs(again)) <= total + 48


def in_a_container(toy: ModelSpec, url: str, last: int, host: str = "4f1c") -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: host)
        patch.setattr(owners, "place", lambda: f"namespace of {host}")
        killed(toy, url, last)


class Times:
    """Time that passes only where somebody sleeps."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        patch.setattr(leftover, "time", self)
        # leases are looked at with it, and the day goes on as well
        today = time.time()
        patch.setattr(Leases, "clock", lambda _: self.seconds, raising=False)
        patch.setattr(
            Leases, "__init__", self._init(today, Leases.__init__), raising=False
        )

    def _init(self, today: float, init: Any) -> Any:
        def made(leases: Leases, *args: Any, **more: Any) -> None:
            del args, more
            init(leases, lambda: self.seconds, lambda: today + self.seconds)

        return made

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


def said(search: Search) -> list[str]:
    assert isinstance(search.watch, Told)
    return search.watch.said


def test_full_precision_of_a_dead_container_is_waited_for_and_measured(
    toy: ModelSpec, url: str, times: Times
) -> None:
    # two looks come before its score
    in_a_container(toy, url, last=2)
    search = begun(toy, url)
    assert EXPIRES < times.seconds < EXPIRES + 5
    (line,) = [text for text in said(search) if "waiting for full precision" in text]
    assert "on 4f1c measures it" in line
    assert [r.kind for r in search.records].count("full") == 1
    # the uniform allocations were measured meanwhile
    assert search.records[0].kind == "uniform"
    assert len([r for r in search.records if r.kind == "proposal"]) == 4


def test_a_baseline_of_a_dead_container_is_measured_before_the_search_ends(
    toy: ModelSpec, url: str, times: Times
) -> None:
    whole = begun(toy, f"{url}.log")
    # full precision: two looks and two scores; then two looks, and its score
    in_a_container(toy, url, last=6)
    search = begun(toy, url)
    assert times.seconds > EXPIRES
    kinds = [r.kind for r in search.records]
    assert sorted(kinds) == sorted(r.kind for r in whole.records)
    assert not search.journal.unknown()


def test_a_proposal_of_a_dead_container_is_taken_over(
    toy: ModelSpec, url: str, times: Times
) -> None:
    whole = begun(toy, f"{url}.log")
    scores = [n for n, (kind, _, size) in enumerate(runs(whole)) if size == 400]
    # the last proposal of four: nothing is left to do but that
    in_a_container(toy, url, last=scores[-1])
    search = begun(toy, url)
    assert EXPIRES < times.seconds < EXPIRES + 5
    assert outcome(search) == outcome(whole)
    (line,) = [text for text in said(search) if text.startswith("waiting up to")]
    assert "on 4f1c began a measurement, and may be dead" in line
    # nothing was done anew but that one score
    assert [size for _, _, size in runs(search)] == [400]


def test_what_a_living_process_elsewhere_measures_is_not_waited_for_in_the_end(
    toy: ModelSpec, url: str, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = begun(toy, f"{url}.log")
    scores = [n for n, (kind, _, size) in enumerate(runs(whole)) if size == 400]
    in_a_container(toy, url, last=scores[-1])
    slept = times.sleep

    def renewing(seconds: float) -> None:
        slept(seconds)
        other = Journal.load(url, "study")
        (trial,) = other.study.get_trials(states=(TrialState.RUNNING,))
        stamp = time.time() + times.seconds
        other.study._storage.set_trial_system_attr(trial._trial_id, "lease", stamp)

    monkeypatch.setattr(times, "sleep", renewing)
    search = begun(toy, url)
    assert times.seconds < 5
    assert len(search.journal.study.get_trials(states=(TrialState.RUNNING,))) == 1


def test_two_containers_of_one_name_are_not_taken_for_one(
    toy: ModelSpec, url: str, times: Times
) -> None:
    here = owners.new_owner()
    in_a_container(toy, url, last=2, host=here.host)
    search = search_of(toy, url, asked_for())
    note_dead(search)
    assert [trial.number for trial in search.journal.unknown()] == [0]
    for step in (EXPIRES, 1.0):
        times.seconds += step
        note_dead(search)
    assert search.journal.unknown() == []
