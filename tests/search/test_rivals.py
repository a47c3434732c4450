from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.records import ADDITIVE, BASELINES, EVEN_MIX, TrialRecord
from allocator.core.spec import ModelSpec, build_groups
from allocator.report.text_search import sentences
from allocator.search import run as searching
from allocator.search.propose import propose
from allocator.search.recommending import in_short
from allocator.search.rivals import best_method, rivals
from allocator.search.run import baselines, conclude
from allocator.space.even_mix import even_mix
from allocator.space.model import ModelSpace
from tests.conftest import toy_linears
from tests.searches import (
    CHOICES,
    FakeBench,
    Told,
    asked_for,
    damage_of,
    runs,
    score,
    search_of,
    space_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.search.running import Search


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task, and no importance."""
    monkeypatch.setattr(searching, "strata", lambda *_: ())
    monkeypatch.setattr(searching, "importance_of", lambda *_: {})


def searched(toy: ModelSpec, url: str, bench: Any = None, **options: Any) -> Search:
    asked = asked_for(**{"finalize": False, **options})
    search = search_of(toy, url, asked, bench)
    baselines(search)
    propose(search)
    return search


@pytest.mark.parametrize("budget", [3.0, 3.3, 4.0, 5.0, 6.5, 8.0, 9.0])
def test_the_additive_optimum_is_the_best_of_all_that_fit(
    url: str, budget: float
) -> None:
    # three components, a group each: 216 allocations
    spec = ModelSpec("toy", 102_400, build_groups(toy_linears(), "component"), ())
    search = search_of(spec, url, asked_for(budget=str(budget)))
    space = search.setup.space
    damage = damage_of(space)
    everything = (
        Allocation(tuple(zip(space.keys, choices, strict=True)))
        for choices in itertools.product(space.choices, repeat=3)
    )
    best = min(
        sum(damage[pair] for pair in each) for each in everything if space.fits(each)
    )
    found = rivals(search, space)[ADDITIVE]
    assert space.fits(found)
    assert sum(damage[pair] for pair in found) == pytest.approx(best)


def test_the_mix_is_by_the_method_that_did_best_on_the_search_set(
    toy: ModelSpec,
) -> None:
    space = ModelSpace(toy, Scheme(), CHOICES, Budget(5.0))
    scores = {"4/uniform": 70.0, "4/awq": 71.0, "2/awq": 60.0, "8/uniform": 90.0}
    records = [
        TrialRecord(space.alike(Choice.parse(name)), value, 0.0, "uniform", "")
        for name, value in scores.items()
    ]
    # 8 bits do not fit
    assert best_method(space, records) == "awq"
    assert best_method(space, records[:1]) == "uniform"


@pytest.mark.parametrize("strategy", ["random", "evolution", "tpe"])
def test_they_are_measured_once_whatever_the_strategy_and_are_no_proposals(
    toy: ModelSpec, url: str, strategy: str
) -> None:
    search = searched(toy, url, strategy=strategy, budget="6", trials=2)
    found = rivals(search, search.setup.space)
    kinds = {r.allocation.digest: r.kind for r in search.records}
    for kind in (EVEN_MIX, ADDITIVE):
        digest = found[kind].digest
        assert kinds[digest] == kind
        assert kind in BASELINES
        own = [run for run in runs(search) if run[1] == digest]
        wanted = [("divergence", 32), ("divergence", 128), ("score", 400)]
        # of the evaluation set nothing yet
        assert sorted((k, n) for k, _, n in own) == sorted(wanted)
    assert search.made == 2
    counts = search.journal.counts(search.setup.space, search.goal.name)
    assert counts["complete"] == 2
    told: Any = search.watch
    assert isinstance(told, Told)
    assert "rivals" in told.phases


GOALS: tuple[dict[str, Any], ...] = ({}, {"front": True}, {"min_score": 0.9})


@pytest.mark.parametrize("goal", GOALS, ids=["budget", "front", "min-score"])
def test_what_is_recommended_is_worse_than_neither(
    toy: ModelSpec, url: str, goal: dict[str, Any]
) -> None:
    # the divergence misleads, so that the search finds little
    bench = FakeBench(diverges=lambda a: -score(a))
    search = searched(toy, url, bench, trials=3, **goal)
    found, space = conclude(search), search.setup.space
    assert [each.name for each in found.rivals] == [EVEN_MIX, ADDITIVE]
    for each in found.rivals:
        assert each.bpw <= found.bpw or goal == {}
        assert each.fits
        assert each.versus is not None
        assert each.versus.mean >= 0
        assert each.score == pytest.approx(found.score.mean - each.versus.mean)
    limit = space
    if goal:
        size = Budget(space.bpw(found.allocation))
        limit = ModelSpace(toy, space.scheme, space.choices, size)
    mix = even_mix(limit, best_method(limit, search.records))
    assert found.rivals[0].digest == mix.digest
    told = in_short(found)
    assert {"over the even mix", "over the additive optimum"} <= told.keys()


@pytest.mark.parametrize("goal", GOALS, ids=["budget", "front", "min-score"])
def test_asked_again_nothing_is_measured_and_the_same_comes_out(
    toy: ModelSpec, url: str, goal: dict[str, Any]
) -> None:
    found = conclude(searched(toy, url, trials=3, **goal)).to_json()
    again = searched(toy, url, trials=3, **goal)
    same = conclude(again).to_json()
    assert runs(again) == []
    for key in ("recommended", "rivals", "uniform", "front"):
        assert same[key] == found[key]


def test_pins_are_kept(toy: ModelSpec, url: str) -> None:
    pins = {"pin": ("vision.front.*=8",), "at_least": ("language.*.ff=4",)}
    search = searched(toy, url, trials=2, budget="6", **pins)
    found = conclude(search)
    kept = {r.allocation.digest: r.allocation for r in search.records}
    for each in found.rivals:
        assert search.setup.space.keeps_pins(kept[each.digest])


def test_where_one_width_is_asked_for_they_are_uniform(
    toy: ModelSpec, url: str
) -> None:
    search = searched(toy, url, trials=2, budget="5", widths=(4,), methods=("awq",))
    found = conclude(search)
    (only,) = found.uniform
    assert {each.digest for each in found.rivals} == {only.digest}
    assert found.is_uniform


def test_what_damage_was_kept_is_not_taken_again_and_what_was_not_is(
    toy: ModelSpec, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def damages(*_: Any) -> dict[tuple[str, Choice], float]:
        asked.append(1)
        return damage_of(search.setup.space)

    monkeypatch.setattr("allocator.bench.probes.damages", damages)
    search = search_of(toy, url, asked_for(strategy="random"))
    search.journal.set_attribute("damage", None)
    first = rivals(search, search.setup.space)
    assert rivals(search, search.setup.space) == first
    assert asked == [1]


def test_a_rival_without_a_score_is_told_and_beats_nothing(
    toy: ModelSpec, url: str
) -> None:
    space = space_of(toy, asked_for(budget="6"))
    mix = even_mix(space, "awq")

    class Broken(FakeBench):
        def score(self, allocation: Allocation, some: Any) -> Any:
            found = super().score(allocation, some)
            return replace(found, mean=math.nan) if allocation == mix else found

    found = conclude(searched(toy, url, Broken(), budget="6"))
    first, second = found.rivals
    assert (first.digest, first.score, first.versus) == (mix.digest, None, None)
    assert second.versus is not None
    told = found.to_json() | {"importance": {"unreliable": {"component": "few"}}}
    assert told["recommended"]["vs_even_mix"] == {"difference": None, "ci95": None}
    assert in_short(found)["over the even mix"] == "none of these has a score"
    assert "Without a score, as it was no finite number: even mix." in sentences(told)
    assert "over the even mix" not in " ".join(sentences(told))
