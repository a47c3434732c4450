"""Even mix and additive optimum at the end of a search."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.core.records import ADDITIVE, EVEN_MIX
from allocator.search.goals import WholeFront
from allocator.search.keep_score import KeepScore
from tests.search.confirming import Finish, outcome, record, roomy_space, uniform_of

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec
    from allocator.space.model import ModelSpace


@pytest.fixture
def roomy(toy: ModelSpec) -> ModelSpace:
    return roomy_space(toy)


class Rivals:
    """Two allocations within each space, and the sizes they were asked for."""

    def __init__(self, even_mix: Allocation, additive: Allocation) -> None:
        self.found = {EVEN_MIX: even_mix, ADDITIVE: additive}
        self.asked: list[float] = []

    def __call__(self, inside: ModelSpace) -> dict[str, Allocation]:
        self.asked.append(inside.budget.bpw(inside.spec))
        # what does not fit becomes the smallest
        return {
            k: a if inside.fits(a) else inside.smallest for k, a in self.found.items()
        }


def widened(space: ModelSpace, keys: int, method: str = "awq") -> Allocation:
    """2 bits everywhere, the first groups at 4."""
    changes = dict.fromkeys(space.keys[:keys], Choice(4, method))
    return uniform_of(space, 2, method).replace(changes)


def test_rivals_are_finished_and_held_against_the_winner(roomy: ModelSpace) -> None:
    mixed, even, additive = (widened(roomy, keys) for keys in (3, 2, 4))
    scores = {mixed.digest: 80.0, even.digest: 70.0, additive.digest: 75.0}
    finish = Finish({additive.digest: 2.0})
    records = [record(roomy, mixed, 80)]
    found, _ = outcome(roomy, records, scores, finish, rivals=Rivals(even, additive))
    assert found.winner.allocation == mixed
    first, second = found.rivals
    assert (first.name, first.digest, first.score) == ("even_mix", even.digest, 70)
    assert (first.finalized, first.versus.mean) == (None, 10)
    assert (second.name, second.digest, second.score) == (
        "additive",
        additive.digest,
        77,
    )
    assert (second.finalized, second.versus.ci95) == ("in sequence", [3, 3])
    assert first.fits
    assert second.fits
    assert {even.digest, additive.digest} <= set(finish.asked)


@pytest.mark.parametrize("better", ["even_mix", "additive"])
def test_a_rival_that_is_better_is_recommended(roomy: ModelSpace, better: str) -> None:
    mixed, even, additive = (widened(roomy, keys) for keys in (3, 2, 4))
    best = {"even_mix": even, "additive": additive}[better]
    scores = {mixed.digest: 80.0, even.digest: 70.0, additive.digest: 75.0}
    finish = Finish({best.digest: 11.0})
    records = [record(roomy, mixed, 80)]
    found, _ = outcome(roomy, records, scores, finish, rivals=Rivals(even, additive))
    assert found.winner.allocation == best
    gains = {each.name: each.versus.mean for each in found.rivals}
    assert gains[better] == 0
    assert min(gains.values()) == 0
    assert found.winner.finalized == "in sequence"


def test_what_is_a_finalist_and_a_rival_is_finished_once(roomy: ModelSpace) -> None:
    mixed, low = widened(roomy, 3), uniform_of(roomy, 4, "awq")
    finish = Finish({})
    scores = {mixed.digest: 80.0, low.digest: 70.0}
    records = [record(roomy, mixed, 80)]
    found, _ = outcome(roomy, records, scores, finish, rivals=Rivals(low, mixed))
    assert len(finish.asked) == len(set(finish.asked))
    assert [each.digest for each in found.rivals] == [low.digest, mixed.digest]
    assert [each.versus.mean for each in found.rivals] == [10, 0]


@pytest.mark.parametrize("kind", ["front", "min-score"])
def test_without_a_budget_rivals_are_of_the_size_of_what_is_recommended(
    roomy: ModelSpace, kind: str
) -> None:
    large, small, tiny = (widened(roomy, keys) for keys in (8, 4, 2))
    scores = {
        roomy.full.digest: 100.0,
        uniform_of(roomy, 8, "awq").digest: 90.5,
        large.digest: 90.0,
        small.digest: 90.0,
        tiny.digest: 50.0,
    }
    records = [
        record(roomy, large, 90),
        replace(record(roomy, roomy.full, 100), kind="full"),
    ]
    goal = WholeFront(roomy) if kind == "front" else KeepScore(roomy, 0.85)
    rivals = Rivals(tiny, small)
    found, _ = outcome(roomy, records, scores, goal=goal, rivals=rivals)
    # as good and smaller; then it is held against what is no larger than itself
    assert found.winner.allocation == small
    assert rivals.asked == pytest.approx([roomy.bpw(large), roomy.bpw(small)])
    assert {each.name: each.versus.mean for each in found.rivals} == {
        "even_mix": 40,
        "additive": 0,
    }
    # asked again with what was measured meanwhile, it comes to the same
    again = [*records, replace(record(roomy, small, 90), kind="additive")]
    same, _ = outcome(roomy, again, scores, goal=goal, rivals=Rivals(tiny, small))
    assert same == found
