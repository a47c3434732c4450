from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.errors import StudyError
from allocator.space.model import KeptSpace, ModelSpace
from allocator.study.journal import COSTS, SPEC, Journal
from allocator.study.recommendations import LATEST, RECOMMENDED, recommendation

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec

CHOICES = (Choice(2, "awq"), Choice(4, "awq"), Choice(16))
PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/studies.db"


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), CHOICES, Budget(4.0))


@pytest.fixture
def journal(url: str) -> Journal:
    return Journal.create(url, "first", "identity", {"budget": "4.0"})


def test_a_study_is_found_again_with_what_was_kept(journal: Journal, url: str) -> None:
    journal.set_attribute("anything", {"a": [1, None]})
    again = Journal.load(url, "first")
    assert (again.name, again.url) == ("first", url)
    assert again.attribute("anything") == {"a": [1, None]}
    assert again.attribute(SPEC) == {"budget": "4.0"}
    assert again.attribute("never kept") is None


def test_the_same_study_may_be_created_twice_and_keeps_the_latest_request(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    journal.complete(journal.begin(space, space.smallest, PROPOSAL), 70.0)
    again = Journal.create(url, "first", "identity", {"budget": "5.0"})
    assert len(again.records(space)) == 1
    assert again.attribute(SPEC) == {"budget": "5.0"}


@pytest.mark.usefixtures("journal")
def test_a_name_taken_by_another_study_is_refused_and_left_as_it_was(url: str) -> None:
    with pytest.raises(StudyError, match="'first' exists and measures another model"):
        Journal.create(url, "first", "another identity", {"budget": "9.0"})
    assert Journal.load(url, "first").attribute(SPEC) == {"budget": "4.0"}


@pytest.mark.usefixtures("journal")
def test_an_unknown_study_is_answered_with_the_known_ones(url: str) -> None:
    Journal.create(url, "another", "identity", {})
    with pytest.raises(StudyError, match=r"no study 'third' \(known: another, first\)"):
        Journal.load(url, "third")


def test_a_file_ending_in_log_holds_studies_too(
    tmp_path: Path, space: ModelSpace
) -> None:
    url = f"{tmp_path}/studies.log"
    journal = Journal.create(url, "first", "identity", {})
    journal.complete(journal.begin(space, space.smallest, PROPOSAL), 70.0)
    assert [r.score for r in Journal.load(url, "first").records(space)] == [70.0]


def test_what_was_measured_is_remembered_with_its_circumstances(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    allocation = space.smallest.replace({"connector.all.all": Choice(16)})
    full = {"kind": "full", "budget": None, "applied": "nothing"}
    journal.complete(journal.begin(space, space.full, full), 90.0)
    journal.complete(journal.begin(space, allocation, PROPOSAL), 71.5)
    first, second = Journal.load(url, "first").records(space)
    assert (first.allocation, first.score, first.kind) == (space.full, 90.0, "full")
    assert (first.bpw, first.budget, first.applied) == (16.0, None, "nothing")
    assert (second.allocation, second.score) == (allocation, 71.5)
    assert (second.kind, second.budget, second.applied) == ("proposal", "4", "cells")
    assert second.bpw == space.bpw(allocation)


def test_a_score_of_nothing_at_all_is_a_score(
    journal: Journal, space: ModelSpace
) -> None:
    journal.complete(journal.begin(space, space.smallest, PROPOSAL), 0.0)
    assert [record.score for record in journal.records(space)] == [0.0]


def test_records_are_in_the_scope_of_the_budget_that_reads_them(
    journal: Journal, space: ModelSpace
) -> None:
    journal.complete(journal.begin(space, space.smallest, PROPOSAL), 60.0)
    other = replace(space, budget=replace(space.budget, scope="quantized"))
    found = [journal.records(each)[0].bpw for each in (space, other)]
    assert found == [space.bpw(space.smallest), other.bpw(other.smallest)]
    assert found[0] != found[1]


def test_only_finished_trials_are_records_and_only_proposals_count(
    journal: Journal, space: ModelSpace
) -> None:
    mixed = space.smallest.replace({"connector.all.all": Choice(16)})
    journal.complete(journal.begin(space, space.full, {"kind": "full"}), 90.0)
    journal.complete(journal.begin(space, space.uniform[0], {"kind": "uniform"}), 50.0)
    journal.complete(journal.begin(space, mixed, PROPOSAL), 60.0)
    journal.fail(journal.begin(space, space.uniform[1], PROPOSAL))
    journal.begin(space, space.uniform[1], PROPOSAL)
    assert [record.score for record in journal.records(space)] == [90.0, 50.0, 60.0]
    found = journal.counts(space, "4")
    assert found == {"running": 1, "complete": 1, "pruned": 0, "failed": 1}
    # proposals for another budget are counted apart
    assert set(journal.counts(space, "3").values()) == {0}


def test_each_trial_that_begins_has_a_number_of_its_own(
    journal: Journal, space: ModelSpace
) -> None:
    each = (*space.uniform, space.full)
    assert len({one.digest for one in each}) == 3
    assert [journal.begin(space, one, PROPOSAL) for one in each] == [0, 1, 2]


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_trials_of_a_dead_process_are_released_and_of_a_living_one_are_not(
    journal: Journal, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    pids = {dead_process(): space.smallest, os.getppid(): space.full}
    for pid, allocation in pids.items():
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda pid=pid: pid)
            begun.append(journal.begin(space, allocation, PROPOSAL))
    stale, living = begun
    journal.release_stale()
    states = {trial.number: trial.state for trial in journal.study.trials}
    assert states == {stale: TrialState.FAIL, living: TrialState.RUNNING}


def test_a_trial_of_a_dead_process_with_our_own_number_is_released(
    journal: Journal, space: ModelSpace
) -> None:
    journal.begin(space, space.smallest, PROPOSAL)
    journal.release_stale()
    assert [t.state for t in journal.study.trials] == [TrialState.FAIL]


def test_trials_of_another_machine_are_not_released_at_once(
    journal: Journal, space: ModelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = dead_process()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: pid)
        patched.setattr("socket.gethostname", lambda: "elsewhere")
        journal.begin(space, space.smallest, PROPOSAL)
    journal.release_stale()
    assert [t.state for t in journal.study.trials] == [TrialState.RUNNING]


def test_damages_come_back_as_they_were_kept(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    assert journal.damage(space) is None
    # numbers that have no short decimal form must survive as they are
    damage = {
        (key, choice): (at + 1) / 3 / choice.bits
        for at, key in enumerate(space.keys)
        for choice in CHOICES
    }
    journal.keep_damage(damage)
    assert Journal.load(url, "first").damage(space) == damage


def test_a_study_without_a_recommendation_says_how_to_get_one(
    journal: Journal,
) -> None:
    with pytest.raises(StudyError, match="'first' has no recommendation yet: run its"):
        recommendation(journal)


def test_the_latest_recommendation_is_the_one_shown(journal: Journal) -> None:
    for budget in ("4", "5"):
        journal.set_attribute(RECOMMENDED + budget, {"found": {"study": budget}})
        journal.set_attribute(LATEST, budget)
    assert recommendation(journal) == {"found": {"study": "5"}}


def test_a_record_gives_back_an_allocation_of_the_model(
    journal: Journal, space: ModelSpace, toy: ModelSpec
) -> None:
    mixed = Allocation.uniform(toy, Choice(4, "awq")).replace(
        {toy.keys[0]: Choice(2, "awq"), toy.keys[-1]: Choice(16)}
    )
    journal.complete(journal.begin(space, mixed, PROPOSAL), 1.0)
    assert journal.records(space)[0].allocation.digest == mixed.digest


def some_looks(
    space: ModelSpace,
) -> list[tuple[Allocation, tuple[str, int], float]]:
    wide = [space.smallest.replace({key: Choice(4, "awq")}) for key in space.keys]
    # numbers that have no short decimal form must survive as they are
    return [
        (allocation, (kind, size), (at + 1) / 3 / size)
        for at, allocation in enumerate([*wide, space.full])
        for kind, size in (("divergence", 32), ("divergence", 128), ("score", 32))
    ]


@pytest.mark.parametrize("kind", ["sqlite", "log"])
def test_looks_come_back_as_they_were_kept(
    tmp_path: Path, space: ModelSpace, kind: str
) -> None:
    file = "sqlite:///{}/x.db" if kind == "sqlite" else "{}/x.log"
    url = file.format(tmp_path)
    journal, looks = Journal.create(url, "first", "identity", {}), some_looks(space)
    # digests in falling order: a database may sort by name
    chosen = sorted((a.digest for a, _, _ in looks), reverse=True)
    for at, look in enumerate(looks):
        journal.keep_looks(space, chosen[at], "4", [look])
    found = list(Journal.load(url, "first").looks(space))
    assert found == [("4", *look) for look in looks]


def test_looks_that_led_to_one_choice_twice_are_all_kept(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    looks = some_looks(space)
    chosen = looks[0][0].digest
    # killed before the choice was measured, a search comes to it again
    for some in (looks[:5], [], looks[5:7]):
        journal.keep_looks(space, chosen, "4", some)
    journal.keep_looks(space, chosen, "5", looks[7:])
    found = list(Journal.load(url, "first").looks(space))
    assert found == [("4" if at < 7 else "5", *look) for at, look in enumerate(looks)]


def test_what_was_looked_at_and_not_measured_counts_as_pruned_once(
    journal: Journal, space: ModelSpace
) -> None:
    looks = some_looks(space)
    allocations = list(dict.fromkeys(a for a, _, _ in looks))
    journal.keep_looks(space, allocations[0].digest, "4", looks)
    journal.complete(journal.begin(space, allocations[0], PROPOSAL), 60.0)
    for passed in allocations[1:3]:
        about = {"kind": "candidate", "budget": "4"}
        journal.add_pruned(space, passed, about)
    counts = journal.counts(space, "4")
    assert (counts["complete"], counts["pruned"]) == (1, len(allocations) - 1)
    assert journal.counts(space, "5")["pruned"] == 0
    # later one of them is measured after all, for another budget
    again = {**PROPOSAL, "budget": "5"}
    journal.complete(journal.begin(space, allocations[1], again), 61.0)
    assert journal.counts(space, "4")["pruned"] == len(allocations) - 2


def test_what_was_passed_over_is_no_record_and_may_be_measured(
    journal: Journal, space: ModelSpace
) -> None:
    about = {"kind": "candidate", "budget": "4", "divergence on 128 samples": 0.25}
    journal.add_pruned(space, space.smallest, about)
    assert journal.records(space) == []
    assert journal.taken(space) == set()
    (entry,) = journal.entries(space)
    assert (entry.allocation, entry.score) == (space.smallest, None)
    assert entry.about["divergence on 128 samples"] == 0.25


def test_a_record_knows_within_what_it_was_made(
    journal: Journal, space: ModelSpace
) -> None:
    limit = 10 / 3
    about = {**PROPOSAL, "limit": limit}
    journal.complete(journal.begin(space, space.smallest, about), 60.0)
    assert [r.limit for r in journal.records(space)] == [limit]


def test_a_study_is_read_with_the_sizes_it_keeps_alone(
    journal: Journal, url: str, space: ModelSpace
) -> None:
    journal.set_attribute(COSTS, space.costs)
    journal.complete(journal.begin(space, space.uniform[1], PROPOSAL), 70.0)
    journal.keep_looks(space, space.smallest.digest, "4", some_looks(space))
    again = Journal.load(url, "first")
    kept = KeptSpace(again.attribute(COSTS), Budget(4.0))
    assert again.records(kept) == journal.records(space)
    assert list(again.looks(kept)) == list(journal.looks(space))
