from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.core.study import StudySpec
from allocator.search.propose import propose, trials_of, wanted_of
from allocator.search.run import baselines
from tests.searches import asked_for, search_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

SPEC = StudySpec(budget="4.0", task="vqav2")


def searched(spec: ModelSpec, url: str, wanted: int | None, budget: str) -> Search:
    search = search_of(spec, url, asked_for(trials=wanted, budget=budget))
    baselines(search)
    propose(search)
    return search


def said(search: Search) -> list[str]:
    watch: Any = search.watch
    return [each for each in watch.said if "near this budget" in each]


def test_a_budget_near_others_measures_fewer_proposals() -> None:
    assert trials_of(SPEC) == 20
    # what others measured is taken off, and eight are always left
    assert [trials_of(SPEC, nearby) for nearby in (5, 12, 20)] == [15, 8, 8]
    assert trials_of(replace(SPEC, trials=30), 20) == 30
    assert trials_of(replace(SPEC, trials=3), 20) == 3
    # a front has no budget that another one could be near
    assert trials_of(replace(SPEC, budget=None, front=True), 20) == 20


def test_a_search_near_one_that_is_done_says_how_much_less_it_does(
    toy: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{tmp_path}/studies.log"
    monkeypatch.setattr("allocator.search.propose.TRIALS", 5)
    monkeypatch.setattr("allocator.search.propose.FEWEST_TRIALS", 2)
    first = searched(toy, url, None, "5")
    assert (first.made, said(first)) == (5, [])
    near = searched(toy, url, None, "5.5")
    assert near.made == 2
    assert said(near) == [
        "5 proposals near this budget are measured already: 2 more take the place of "
        "5 (--trials asks for others)"
    ]
    # where nothing is left to do there is nothing to say
    assert not said(searched(toy, url, None, "5.5"))
    assert searched(toy, url, 3, "5.5").made == 3
    # 9 bits are far from both
    far = search_of(toy, url, asked_for(trials=None, budget="9"))
    assert wanted_of(far) == (5, 5, 0)
