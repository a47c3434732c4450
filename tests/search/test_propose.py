from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from optuna.trial import TrialState

from allocator.search.propose import PROBED, prior, propose
from allocator.search.run import baselines
from allocator.study.looks import DIVERGENCE, FEWEST, LADDER, SCORE
from tests.searches import (
    FakeBench,
    Told,
    asked_for,
    divergence,
    runs,
    score,
    search_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


def said(search: Search) -> list[str]:
    assert isinstance(search.watch, Told)
    return search.watch.said


def searched(toy: ModelSpec, url: str, bench: Any = None, **options: Any) -> Search:
    search = search_of(toy, url, asked_for(**options), bench)
    baselines(search)
    propose(search)
    return search


def proposals(search: Search) -> list[Allocation]:
    return [r.allocation for r in search.records if r.kind == "proposal"]


def test_as_many_are_measured_as_were_asked_for(toy: ModelSpec, url: str) -> None:
    search = searched(toy, url, trials=4)
    found = proposals(search)
    assert len({each.digest for each in found}) == 4
    assert all(search.setup.space.fits(each) for each in found)
    assert search.made == 4
    # each measured in full once, and looked at before
    for each in found:
        sizes = [(kind, n) for kind, digest, n in runs(search) if digest == each.digest]
        assert sorted(sizes) == [
            ("divergence", 32),
            ("divergence", 128),
            ("score", 400),
        ]


def test_the_one_that_is_measured_diverged_least_of_its_generation(
    toy: ModelSpec, url: str
) -> None:
    search = searched(toy, url, trials=1)
    (chosen,) = proposals(search)
    looked = {a.digest: a for _, a, _, _ in search.journal.looks(search.setup.space)}
    alike = {r.allocation.digest for r in search.records if r.kind != "proposal"}
    generation = [a for digest, a in looked.items() if digest not in alike]
    assert len(generation) == 16
    assert divergence(chosen) == min(map(divergence, generation))


def test_those_that_went_far_are_trials_that_tell_why_they_were_passed_over(
    toy: ModelSpec, url: str
) -> None:
    search = searched(toy, url, trials=1)
    passed = [
        e
        for e in search.journal.entries(search.setup.space)
        if e.state == TrialState.PRUNED
    ]
    # of those that outlived the first rung one is measured
    assert len(passed) == LADDER[0][2] - 1
    for entry in passed:
        assert entry.about["divergence on 128 samples"] == divergence(entry.allocation)
        assert entry.about["budget"] == search.goal.name
        assert entry.digest not in search.journal.taken(search.setup.space)
    assert search.journal.counts(search.setup.space, search.goal.name)["pruned"] == 15


def test_without_rungs_the_first_candidate_is_measured(
    toy: ModelSpec, url: str
) -> None:
    search = searched(toy, url, trials=3, rungs=False)
    assert len(proposals(search)) == 3
    assert {kind for kind, _, _ in runs(search)} == {"score"}
    assert search.journal.counts(search.setup.space, search.goal.name)["pruned"] == 0


@pytest.mark.parametrize("searched", [40, 100])
def test_a_small_search_set_has_few_rungs_or_none(
    toy: ModelSpec, url: str, searched: int
) -> None:
    search = search_of(toy, url, asked_for(), searched=searched)
    baselines(search)
    propose(search)
    assert search.made == 3
    sizes = {n for kind, _, n in runs(search) if kind == DIVERGENCE}
    assert sizes == ({32} if searched == 100 else set())


def test_a_search_that_is_done_measures_nothing_more(toy: ModelSpec, url: str) -> None:
    searched(toy, url)
    again = searched(toy, url)
    assert runs(again) == []
    assert again.evaluated == 0


def test_more_trials_go_on_from_those_there_are(toy: ModelSpec, url: str) -> None:
    first = proposals(searched(toy, url, trials=2))
    found = proposals(searched(toy, url, trials=4))
    assert found[:2] == first
    assert len(found) == 4


def test_a_second_budget_begins_its_own_count(toy: ModelSpec, url: str) -> None:
    searched(toy, url, budget="5")
    again = searched(toy, url, budget="4")
    assert again.made == 3
    kinds = Counter(record.kind for record in again.records)
    # at 5 bits the additive optimum is the even mix
    assert kinds == {
        "full": 1,
        "uniform": 4,
        "proposal": 6,
        "even_mix": 2,
        "additive": 1,
    }


def test_a_search_in_two_runs_is_the_search_in_one(
    toy: ModelSpec, tmp_path: Path
) -> None:
    whole = proposals(searched(toy, f"{tmp_path}/one.log", trials=5))
    for url in (f"{tmp_path}/two.log", f"sqlite:///{tmp_path}/two.db"):
        for trials in (1, 3, 5):
            parts = proposals(searched(toy, url, trials=trials))
        assert parts == whole


class Killed(FakeBench):
    """Is interrupted when it is to score its `last` proposal on the search set."""

    last = 2

    def score(self, allocation: Allocation, some: Any) -> Any:
        full = [n for kind, _, n in self.runs if (kind, n) == ("score", 400)]
        # the baselines come first, the even mix among them
        if len(some) == 400 and len(full) == 6 + self.last - 1:
            raise KeyboardInterrupt
        return super().score(allocation, some)


def test_a_killed_generation_loses_no_finished_trial_and_no_look(
    toy: ModelSpec, url: str
) -> None:
    bench = Killed()
    with pytest.raises(KeyboardInterrupt):
        searched(toy, url, bench)
    killed = search_of(toy, url, asked_for())
    space = killed.setup.space
    kept = {(a.digest, key) for _, a, key, _ in killed.journal.looks(space)}
    assert len(proposals(killed)) == 1
    taken = [(d, (kind, n)) for kind, d, n in bench.runs if kind == DIVERGENCE]
    # more than six baselines and a generation of sixteen, of whom some went on
    assert len(taken) > 6 * 2 + 16 + LADDER[0][2]
    assert len(set(taken)) == len(taken)
    # scores of parts cost no run
    assert set(taken) == {each for each in kept if each[1][0] == DIVERGENCE}
    again = searched(toy, url)
    assert len(proposals(again)) == 3
    retaken = {
        (digest, (kind, n)) for kind, digest, n in runs(again) if kind == DIVERGENCE
    }
    assert not retaken & kept
    # a third process still knows all of them
    third = {
        (a.digest, key)
        for _, a, key, _ in search_of(toy, url, asked_for()).journal.looks(space)
    }
    assert kept | retaken == {each for each in third if each in kept | retaken}
    assert {key[0] for _, key in third - kept - retaken} <= {SCORE}


def test_a_trial_that_was_killed_counts_as_failed_and_is_made_up_for(
    toy: ModelSpec, url: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        searched(toy, url, Killed())
    again = searched(toy, url)
    counts = again.journal.counts(again.setup.space, again.goal.name)
    assert (counts["complete"], counts["failed"], counts["running"]) == (3, 1, 0)


def test_a_divergence_that_misleads_leads_to_scores_and_is_said_once(
    toy: ModelSpec, url: str
) -> None:
    bench = FakeBench(diverges=lambda a: 1 - divergence(a))
    search = searched(toy, url, bench, trials=10)
    told = [text for text in said(search) if "does not predict" in text]
    assert len(told) == 1
    assert "over 8 allocations of a budget, 3 of them drawn by chance" in told[0]
    assert "rank correlation -0." in told[0]
    few = [(kind, n) for kind, _, n in runs(search) if n in (32, 128)]
    first = few.index(("score", 32))
    assert set(few[:first]) == {("divergence", 32), ("divergence", 128)}
    assert set(few[first:]) == {("score", 32), ("score", 128)}
    # beside full precision, four uniform allocations and the even mix, the eight
    # proposals it takes
    made = [(kind, n) for kind, _, n in runs(search)]
    assert made[: made.index(("score", 32))].count(("score", 400)) == 6 + 8
    search.judge()
    reports = search.rungs.reports()
    of = {(r.kind, r.samples): r for r in reports}
    assert of[DIVERGENCE, 128].count >= FEWEST
    # scores of few samples tell more than what misleads
    assert (of[SCORE, 128].spearman or 0) > 0 > (of[DIVERGENCE, 128].spearman or 0)


def test_a_divergence_that_predicts_is_not_complained_about(
    toy: ModelSpec, url: str
) -> None:
    search = searched(toy, url, trials=8)
    assert said(search) == []
    assert SCORE not in {kind for kind, _, n in runs(search) if n < 400}


def test_the_time_limit_ends_it_in_a_sentence(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for(seconds=1e-9))
    propose(search)
    assert search.made == 0
    assert said(search) == ["time limit reached after 0 proposals"]


def test_a_front_goes_on_where_its_narrow_budgets_have_nothing_left(
    toy: ModelSpec, url: str
) -> None:
    # the narrowest budget has no room for 8 bits in any group
    coarse = {"methods": ("awq",), "widths": (2, 8)}
    search = search_of(toy, url, asked_for(front=True, trials=9, **coarse))
    narrow = search.goal.space([])
    assert narrow is not None
    wider = [narrow.smallest.replace({key: narrow.choices[1]}) for key in narrow.keys]
    assert not any(map(narrow.fits, wider))
    baselines(search)
    propose(search)
    limits = {r.limit for r in search.records if r.kind == "proposal"}
    assert search.made == 9
    assert len(limits) > 1
    assert narrow.budget.limit not in limits


def test_a_space_that_is_used_up_ends_the_search_in_a_sentence(
    toy: ModelSpec, url: str
) -> None:
    # 2 bits everywhere take 2.7932 bpw: nothing else fits
    search = search_of(toy, url, asked_for(budget="2.8", methods=("awq",)))
    baselines(search)
    propose(search)
    assert search.made == 0
    assert said(search) == ["nothing left to try after 0 proposals"]


class Overtaken(FakeBench):
    """Another process measures a proposal while this one looks at candidates."""

    overtake: Any = None

    def divergence(self, allocation: Allocation, some: Any, ahead: Any = None) -> float:
        if self.overtake is not None:
            overtake, self.overtake = self.overtake, None
            overtake()
        return super().divergence(allocation, some, ahead)


def test_what_another_process_measures_meanwhile_is_not_measured_twice(
    toy: ModelSpec, url: str
) -> None:
    bench = Overtaken()
    search = search_of(toy, url, asked_for(trials=3), bench)
    baselines(search)
    other = search_of(toy, url, asked_for(trials=1))
    bench.overtake = lambda: propose(other)
    propose(search)
    assert other.made == 3
    found = proposals(search)
    assert len(found) == len({each.digest for each in found}) == 3
    # the other one's is the one that this one would have chosen first
    measured = [
        digest for kind, digest, n in runs(search) if (kind, n) == ("score", 400)
    ]
    assert found[0].digest not in measured


class Probed(FakeBench):
    """Next-token log-probabilities of two words, further from even as bits fall."""

    spec: Any = None

    @property
    def depths(self) -> dict[str, int]:
        return {key: at for at, key in enumerate(self.spec.keys)}

    def logits(
        self, allocation: Allocation, some: list[Sample], ahead: Any = None
    ) -> torch.Tensor:
        del ahead
        self.runs.append(("logits", allocation.digest, len(some)))
        lean = 0.5 + (90 - score(allocation)) / 40
        return torch.tensor([[lean, 1 - lean]]).log().repeat(len(some), 1)


def test_the_prior_is_measured_once_and_counted(toy: ModelSpec, url: str) -> None:
    bench = Probed()
    bench.spec = toy
    search = search_of(toy, url, asked_for(), bench)
    search.journal.set_attribute("damage", None)
    found = prior(search)
    assert found is not None
    choices = search.setup.space.choices
    assert set(found) == {(key, choice) for key in toy.keys for choice in choices}
    assert all(value > 0 for value in found.values())
    # full precision and each choice of each group, on 64 calibration samples
    assert len(runs(search)) == 1 + len(found)
    assert search.evaluated == PROBED * (1 + len(found))
    assert len(search.seen) == 1 + len(found)
    again = search_of(toy, url, asked_for())
    assert prior(again) == found
    assert (runs(again), again.evaluated) == ([], 0)
