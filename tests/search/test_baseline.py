"""Baselines that another process measures: begun once, and waited for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.spec import ModelSpec, build_groups
from allocator.search import baseline, leftover
from allocator.search.baseline import await_baselines, measure_baseline
from allocator.search.leftover import note_dead, settle
from allocator.search.propose import propose, step
from allocator.search.run import baselines
from tests.conftest import toy_linears
from tests.searches import FakeBench, Told, asked_for, runs, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.search.running import Search

SEARCHED = 400


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/x.db"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is to happen while somebody waits, one thing at each pause."""
    left: list[Any] = []

    def pause(_: float) -> None:
        left.pop(0)()

    monkeypatch.setattr(baseline.time, "sleep", pause)
    return left


def begun_elsewhere(search: Search, allocation: Allocation) -> int:
    """Another process, whose journal is its own, begins what this one wants."""
    other = type(search.journal).load(search.journal.url, "study")
    about = {"kind": "uniform", "budget": None, "limit": 5.0}
    applied = search.bench.applied(allocation)
    number = other.begin(search.setup.space, allocation, {**about, "applied": applied})
    assert number is not None
    return number


def whole(search: Search) -> list[str]:
    """What was measured in full, by digest."""
    return [digest for _, digest, size in runs(search) if size == SEARCHED]


def said(search: Search) -> list[str]:
    assert isinstance(search.watch, Told)
    return search.watch.said


def searched(url: str) -> dict[str, list[str]]:
    """A search to its end; what it measured, and what it knows to be measured."""
    baseline.PAUSE = leftover.PAUSE = 0.02
    spec = ModelSpec("toy", 102_400, build_groups(toy_linears()), ())
    search = search_of(spec, url, asked_for(trials=4))
    note_dead(search)
    baselines(search)
    propose(search)
    settle(search)
    await_baselines(search)
    space = search.setup.space
    wanted = [each.digest for each in space.uniform if space.fits(each)]
    known = [record.allocation.digest for record in search.records]
    failed = search.journal.counts(space, search.goal.name)["failed"]
    assert not failed
    return {"measured": whole(search), "known": known, "wanted": wanted}


@pytest.mark.slow
def test_two_searches_at_once_measure_each_allocation_once(url: str) -> None:
    code = "import sys, json; from tests.search.test_baseline import searched; "
    code += "sys.stdin.readline(); print(json.dumps(searched(sys.argv[1])))"
    command = [sys.executable, "-c", code, url]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = [json.loads(process.communicate()[0]) for process in processes]
    counted = Counter(digest for each in found for digest in each["measured"])
    assert set(counted.values()) == {1}
    for each in found:
        assert set(each["wanted"]) <= set(each["known"]) <= counted.keys()


def test_a_baseline_that_another_measures_is_waited_for(
    toy: ModelSpec, url: str, pauses: list[Any]
) -> None:
    search = search_of(toy, url, asked_for())
    wanted = search.setup.space.uniform[0]
    number = begun_elsewhere(search, wanted)
    # a look does not end what a living process is at
    search.journal.leases._renewed.add(number)
    measure_baseline(search, wanted, "uniform")
    assert whole(search) == []
    pauses.append(lambda: None)
    pauses.append(lambda: search.journal.complete(number, 50.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(search.journal.leases), "is_dead", lambda *_: False)
        await_baselines(search)
    assert not pauses
    assert [record.score for record in search.records] == [50.0]
    assert whole(search) == []
    (line,) = said(search)
    assert line.startswith("waiting for a baseline: process ")


def test_a_baseline_that_another_gave_up_is_measured_here(
    toy: ModelSpec, url: str, pauses: list[Any]
) -> None:
    search = search_of(toy, url, asked_for())
    wanted = search.setup.space.uniform[0]
    number = begun_elsewhere(search, wanted)
    measure_baseline(search, wanted, "uniform")
    pauses.append(lambda: search.journal.fail(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(search.journal.leases), "is_dead", lambda *_: False)
        await_baselines(search)
    assert whole(search) == [wanted.digest]
    assert len(search.records) == 1


def test_a_baseline_of_a_dead_process_is_measured_here(
    toy: ModelSpec, url: str, pauses: list[Any]
) -> None:
    search = search_of(toy, url, asked_for())
    wanted = search.setup.space.uniform[0]
    begun_elsewhere(search, wanted)
    # nobody of this process is at it: it was killed
    measure_baseline(search, wanted, "uniform")
    pauses.append(lambda: None)
    await_baselines(search)
    assert whole(search) == [wanted.digest]


def test_nothing_is_waited_for_where_all_is_measured(
    toy: ModelSpec, url: str, pauses: list[Any]
) -> None:
    search = search_of(toy, url, asked_for())
    for _ in range(2):
        measure_baseline(search, search.setup.space.uniform[0], "uniform")
    await_baselines(search)
    assert len(search.records) == 1
    assert not said(search)
    assert not pauses


class Overtaken(FakeBench):
    """Another process begins whatever is looked at last, before this one measures."""

    search: Any = None

    def applied(self, allocation: Allocation) -> str:
        if self.search is not None:
            search, self.search = self.search, None
            begun_elsewhere(search, allocation)
        return super().applied(allocation)


def test_a_proposal_that_another_begins_first_is_left_to_it(
    toy: ModelSpec, url: str
) -> None:
    from allocator.search.propose import proposers

    bench = Overtaken()
    search = search_of(toy, url, asked_for(rungs=False), bench)
    baselines(search)
    before = whole(search)
    space = search.setup.space
    proposer = proposers(search, search.journal.damage(space) or {})(space)
    bench.search = search
    assert step(search, space, proposer)
    assert whole(search) == before
    assert len(search.skipped) == 1
    # and the next one is another
    assert step(search, space, proposer)
    assert len(whole(search)) == len(before) + 1
