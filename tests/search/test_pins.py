"""A search keeps its pins, and shares its study with searches that have others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allocator.core.allocation import Choice
from allocator.core.plugins import load
from allocator.core.records import TrialRecord, UniformResult
from allocator.explain.evidence import Evidence
from allocator.explain.importance import importance
from allocator.explain.sentences import varied
from allocator.search.confirm import confirm
from allocator.search.estimate import estimate
from allocator.search.goals import goal_of
from allocator.search.measured import Measured
from allocator.search.narrowing import EVERY, FIRST, NarrowedSpace, Narrowing, decide
from allocator.search.propose import propose
from allocator.search.run import baselines
from allocator.strategies._base import Known
from allocator.strategies._moves import scatter
from allocator.study.frozen import FrozenGroup
from tests.searches import asked_for, damage_of, runs, score, search_of, space_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

PINS = {"pin": ("vision.*=16",), "at_least": ("language.all.ff=4",)}
FREE = ("connector.all.all", "language.all.attn", "language.all.ff")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


def searched(toy: ModelSpec, url: str, **options: Any) -> Search:
    search = search_of(toy, url, asked_for(**{"budget": "9", **options}))
    baselines(search)
    propose(search)
    return search


def proposals(search: Search) -> list[Allocation]:
    return [
        r.allocation
        for r in search.records
        if r.kind == "proposal" and r.budget == search.goal.name
    ]


def keeps(allocation: Allocation) -> bool:
    chosen = dict(allocation.choices)
    vision = {c.bits for key, c in chosen.items() if key.startswith("vision")}
    return vision == {16} and chosen["language.all.ff"].bits in (4, 8)


GOALS: tuple[dict[str, Any], ...] = (
    {},
    {"budget": None, "front": True},
    {"budget": None, "min_score": 0.97},
)


@pytest.mark.parametrize("goal", GOALS, ids=["budget", "front", "min-score"])
def test_everything_a_search_proposes_and_compares_with_keeps_the_pins(
    toy: ModelSpec, url: str, goal: dict[str, Any]
) -> None:
    search = searched(toy, url, trials=6, **goal, **PINS)
    found = proposals(search)
    assert len(found) == search.made
    assert found
    assert all(map(keeps, found))
    assert all(map(keeps, search.setup.space.uniform))
    # full precision is the reference, and nobody pins it
    full = [r.allocation for r in search.records if r.kind == "full"]
    assert full == [search.setup.space.full]
    best = search.goal.best(search.records)
    assert best is not None
    assert keeps(best.allocation)
    assert all(keeps(r.allocation) for r in search.goal.finalists(search.records))


@pytest.mark.parametrize("first", [{}, PINS], ids=["free first", "pinned first"])
def test_pins_are_free_within_a_study_and_each_count_for_themselves(
    toy: ModelSpec, url: str, first: dict[str, Any]
) -> None:
    second = {} if first else PINS
    before = searched(toy, url, trials=4, **first)
    known = {r.allocation.digest for r in before.records}
    after = searched(toy, url, trials=3, **second)
    assert (before.made, after.made) == (4, 3)
    assert before.journal.name == after.journal.name
    assert len(proposals(after)) == 3
    # nothing is measured twice
    measured = [d for kind, d, n in runs(after) if (kind, n) == ("score", 400)]
    assert not known & set(measured)
    assert all(map(keeps, proposals(after if second else before)))
    # asked again, all of it is there
    assert runs(searched(toy, url, trials=4, **first)) == []
    assert runs(searched(toy, url, trials=3, **second)) == []


def test_what_was_measured_under_other_pins_serves_where_it_keeps_these(
    toy: ModelSpec, url: str
) -> None:
    tight = {"pin": ("vision.*=16", "connector.*=4"), "at_least": ("*.ff=4",)}
    before = searched(toy, url, trials=3, **tight)
    after = searched(toy, url, trials=1, **PINS)
    fitting = [r for r in after.goal.finalists(after.records) if r.kind == "proposal"]
    assert {r.allocation for r in fitting} >= set(proposals(before))
    # a better one without pins is nobody's finalist here
    free = searched(toy, url, trials=6)
    top = free.goal.best(free.records)
    again = search_of(toy, url, asked_for(budget="9", trials=1, **PINS))
    best = again.goal.best(again.records)
    assert top is not None
    assert best is not None
    assert not keeps(top.allocation)
    assert top.score > best.score


def test_where_pins_leave_one_allocation_it_is_measured_and_that_is_all(
    toy: ModelSpec, url: str
) -> None:
    pins = {"pin": ("vision.*=16", "connector.*=2/awq", "language.*=4/uniform")}
    for goal in GOALS:
        search = searched(toy, url, trials=3, **goal, **pins)
        (only,) = search.setup.space.uniform
        assert search.made == 0
        assert search.setup.space.uniform_choice(only) == Choice(4, "uniform")
        best = search.goal.best(search.records)
        assert best is not None
        assert best.allocation == only


def test_methods_are_searched_where_pins_leave_nothing_else(
    toy: ModelSpec, url: str
) -> None:
    for goal in GOALS[:2]:
        search = searched(toy, url, trials=3, pin=("*=4",), **goal)
        assert search.made == 3
        assert {c.bits for a in proposals(search) for _, c in a} == {4}


@pytest.mark.parametrize("goal", GOALS, ids=["budget", "front", "min-score"])
def test_the_winner_is_never_worse_than_the_best_uniform_one_with_the_same_pins(
    toy: ModelSpec, goal: dict[str, Any]
) -> None:
    asked = asked_for(**{"budget": "9", **goal}, **PINS)
    space = space_of(toy, asked)
    wanted = goal_of(asked, space)
    evaluated: list[Allocation] = []

    def evaluate(allocation: Allocation) -> Measured:
        evaluated.append(allocation)
        return Measured(allocation, (score(allocation),) * 2_000, allocation.digest)

    searched_before = [
        TrialRecord(each, score(each), space.bpw(each), "uniform", "")
        for each in space.uniform
        if space.fits(each)
    ]
    found = confirm(
        space,
        searched_before,
        wanted,
        evaluate=evaluate,
        finish=lambda measured: measured,
        rivals=lambda _: {},
        progress=lambda *_: None,
        seed=0,
    )
    assert all(keeps(each) for each in evaluated if each != space.full)
    assert keeps(found.winner.allocation)
    assert found.versus.mean >= 0
    fitting = [each for each in found.uniform if each.score is not None]
    assert all(each.pinned for each in fitting)
    assert found.best_uniform.name.endswith("everywhere else")
    # the first group is pinned, and does not name them
    assert {each.choice.method for each in fitting} == {"uniform", "awq"}


def test_a_uniform_allocation_that_no_pin_touches_is_so_everywhere() -> None:
    row = UniformResult(Choice(4, "awq"), "digest", 4.0, None, True)
    assert row.name == "4/awq everywhere"


def test_an_estimate_keeps_the_pins_and_is_silent_where_they_are_impossible(
    toy: ModelSpec, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/studies.db"
    kept = {"storage": storage, "study": "study", "trials": 6}
    searched(toy, storage, **kept)
    found = estimate(asked_for(budget="9", **kept, **PINS))
    assert found is not None
    assert keeps(found.allocation)
    assert found.score <= score(found.allocation) + 3
    for bad in ({"pin": ("visoin.*=16",)}, {"pin": ("*=4", "*.ff=8")}):
        assert estimate(asked_for(budget="9", **kept, **bad)) is None
    # too small under these pins, if not without
    assert estimate(asked_for(budget="5", **kept, **PINS)) is None
    assert estimate(asked_for(budget="5", **kept)) is not None
    searched(toy, storage, **kept, **PINS)
    assert estimate(asked_for(budget="9", **kept, **PINS)) is None


def test_a_pinned_group_is_no_group_that_hardly_matters(toy: ModelSpec) -> None:
    pins = {"pin": ("vision.*=2/awq",), "at_least": ("connector.*=4",)}
    space = space_of(toy, asked_for(budget="5", **pins))
    rng, scored = np.random.default_rng(0), {}
    for _ in range(150):
        drawn = scatter(space, rng)
        scored[drawn] = score(drawn.replace({"connector.all.all": Choice(8, "awq")}))
    known = Known(tuple(scored.items()))
    frozen = decide(space, known, seed=0)
    names = [each.group for each in frozen]
    assert not [name for name in names if name.startswith("vision")]
    # of three that are free two stay so, whatever else is pinned
    assert len(names) <= 1
    assert set(names) <= {"connector.all.all"}
    narrow = NarrowedSpace(space, {"connector.all.all": Choice(4, "awq")})
    for _ in range(20):
        whole = narrow.whole(scatter(narrow, rng))
        assert space.fits(whole)
        assert space.keeps_pins(whole)


@pytest.mark.parametrize("name", ["surrogate", "tpe", "grid", "knapsack"])
def test_a_narrowed_search_keeps_its_pins(toy: ModelSpec, name: str) -> None:
    space = space_of(toy, asked_for(budget="9", **PINS))
    rng = np.random.default_rng(1)
    drawn = {a.digest: (a, score(a)) for a in (scatter(space, rng) for _ in range(60))}
    known = Known(tuple(drawn.values())[: FIRST + 4], taken=frozenset(drawn))
    frozen = [FrozenGroup(FREE[0], "2/awq", 1.0, "because")]
    make = load("allocator.strategies", name)
    decided = dict.fromkeys(range(0, 99, EVERY), frozen)
    asked = Narrowing(make(space, 0, damage_of(space)), decided)
    found = [each.allocation for each in asked.ask(known, 4)]
    assert found
    assert all(map(keeps, found))
    assert all(map(space.fits, found))


def test_nothing_is_said_of_how_pinned_groups_matter(toy: ModelSpec) -> None:
    space = space_of(toy, asked_for(budget="9", **PINS))
    rng = np.random.default_rng(0)
    drawn = [scatter(space, rng) for _ in range(60)]
    found = importance(Evidence.of(space.keys, [(a, score(a)) for a in drawn]))
    assert np.isfinite([s["consensus"] for s in found["group"].values()]).all()
    assert set(varied(found["group"])) == set(FREE)
    assert set(varied(found["component"])) == {"connector", "language"}
    assert set(found["constant"]) == set(space.keys) - set(FREE)
