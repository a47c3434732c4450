from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.errors import NotReachedError
from allocator.search.goals import WholeFront
from allocator.search.keep_score import KeepScore
from allocator.space.model import ModelSpace
from tests.search.confirming import (
    BOTH,
    Finish,
    outcome,
    record,
    roomy_space,
    uniform_of,
)

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec

CHOICES = (Choice(2, "gptq"), Choice(4, "gptq"), Choice(16))


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    # between the sizes at 2 and at 4 bits
    return ModelSpace(toy, Scheme(), CHOICES, Budget(4.0))


def proposals(space: ModelSpace) -> list[Allocation]:
    """The smallest allocation with one group widened, for each small group."""
    smallest = space.smallest
    wide = [smallest.replace({key: Choice(4, "gptq")}) for key in space.keys]
    return [allocation for allocation in wide if space.fits(allocation)]


def test_the_best_on_the_evaluation_set_wins_whatever_the_search_set_said(
    space: ModelSpace,
) -> None:
    first, second = proposals(space)[:2]
    records = [record(space, first, 60), record(space, second, 50)]
    scores = {first.digest: 40.0, second.digest: 45.0, space.smallest.digest: 30.0}
    found, _ = outcome(space, records, scores)
    assert found.winner.allocation == second
    assert found.score.mean == 45
    # the same samples lie 15 apart in both models: the paired interval has no width
    assert found.versus.mean == 15
    assert found.versus.ci95 == [15, 15]


def test_where_nothing_is_better_the_uniform_allocation_is_recommended(
    space: ModelSpace,
) -> None:
    first = proposals(space)[0]
    scores = {first.digest: 40.0, space.smallest.digest: 41.0}
    found, _ = outcome(space, [record(space, first, 60)], scores)
    assert found.winner.allocation == space.smallest
    assert found.best_uniform.digest == space.smallest.digest
    assert found.versus.ci95 == [0, 0]


def test_of_equal_scores_the_smaller_allocation_is_recommended(
    space: ModelSpace,
) -> None:
    first = proposals(space)[0]
    scores = {first.digest: 40.0, space.smallest.digest: 40.0}
    found, _ = outcome(space, [record(space, first, 60)], scores)
    assert found.winner.allocation == space.smallest


def test_at_most_five_finalists_are_evaluated(space: ModelSpace) -> None:
    many = proposals(space)
    assert len(many) > 5
    records = [record(space, a, score) for score, a in enumerate(many)]
    _, asked = outcome(space, records, {})
    best = {allocation.digest for allocation in many[-5:]}
    assert set(asked) == best | {space.smallest.digest, space.full.digest}


def test_what_does_not_fit_is_never_a_finalist(space: ModelSpace) -> None:
    four = Allocation.uniform(space.spec, Choice(4, "gptq"))
    found, _ = outcome(space, [record(space, four, 99)], {four.digest: 99.0})
    assert found.winner.allocation == space.smallest
    assert [each.fits for each in found.uniform] == [True, False]
    assert found.uniform[1].score is None


@pytest.fixture
def roomy(toy: ModelSpec) -> ModelSpace:
    """Two methods, and room for everything."""
    return roomy_space(toy)


def test_the_winner_and_the_best_uniform_of_each_method_are_finished(
    roomy: ModelSpace,
) -> None:
    mixed = uniform_of(roomy, 4, "awq").replace({roomy.keys[0]: Choice(8, "gptq")})
    best = {("gptq", 8): 70.0, ("awq", 4): 60.0}
    scores = {uniform_of(roomy, b, m).digest: v for (m, b), v in best.items()}
    scores[mixed.digest] = 80.0
    finish = Finish({})
    found, _ = outcome(roomy, [record(roomy, mixed, 80)], scores, finish)
    # of each method the best that fits, and of others none
    wanted = {mixed, uniform_of(roomy, 8, "gptq"), uniform_of(roomy, 4, "awq")}
    assert sorted(finish.asked) == sorted(each.digest for each in wanted)
    assert found.winner.allocation == mixed


def test_a_uniform_allocation_that_is_better_when_finished_wins(
    roomy: ModelSpace,
) -> None:
    mixed = uniform_of(roomy, 4, "awq").replace({roomy.keys[0]: Choice(8, "gptq")})
    rival = uniform_of(roomy, 4, "gptq")
    scores = {mixed.digest: 80.0, rival.digest: 70.0}
    finish = Finish({rival.digest: 15.0, mixed.digest: 2.0})
    found, _ = outcome(roomy, [record(roomy, mixed, 80)], scores, finish)
    assert (found.winner.allocation, found.winner.finalized) == (rival, "in sequence")
    assert found.score.mean == 85
    assert found.versus.mean == 0
    shown = {each.digest: each for each in found.uniform}
    assert shown[rival.digest].score == 85
    assert shown[rival.digest].finalized == "in sequence"
    assert {
        each.finalized for each in found.uniform if each.digest != rival.digest
    } == {None}


def test_the_gain_is_over_the_finished_rival(roomy: ModelSpace) -> None:
    mixed = uniform_of(roomy, 4, "awq").replace({roomy.keys[0]: Choice(8, "gptq")})
    rival = uniform_of(roomy, 4, "gptq")
    scores = {mixed.digest: 80.0, rival.digest: 70.0}
    finish = Finish({rival.digest: 5.0, mixed.digest: 1.0})
    found, _ = outcome(roomy, [record(roomy, mixed, 80)], scores, finish)
    assert found.winner.finalized == "in sequence"
    assert found.versus.mean == 81 - 75
    assert found.best_uniform.digest == rival.digest
    assert found.best_uniform.score == 75


def test_a_score_is_kept_by_the_smallest_that_does_and_compared_with_no_larger(
    roomy: ModelSpace,
) -> None:
    mixed = uniform_of(roomy, 4, "awq").replace({roomy.keys[0]: Choice(8, "gptq")})
    low, large = uniform_of(roomy, 4, "awq"), uniform_of(roomy, 8, "awq")
    scores = {
        roomy.full.digest: 100.0,
        large.digest: 99.0,
        mixed.digest: 96.0,
        low.digest: 90.0,
    }
    records = [
        record(roomy, mixed, 96),
        replace(record(roomy, roomy.full, 100), kind="full"),
    ]
    goal = KeepScore(roomy, 0.95)
    found, _ = outcome(roomy, records, scores, goal=goal)
    assert found.winner.allocation == mixed
    assert found.retained.mean == pytest.approx(0.96)
    # 8 bits everywhere score more and are larger: that is no comparison
    assert found.best_uniform.digest == low.digest
    assert found.versus.mean == 6
    # finished, a smaller one keeps the score as well
    found, _ = outcome(roomy, records, scores, Finish({low.digest: 5.5}), goal)
    assert found.winner.allocation == low
    assert found.retained.mean == pytest.approx(0.955)


def test_a_score_that_nothing_keeps_raises(roomy: ModelSpace) -> None:
    records = [replace(record(roomy, roomy.full, 100), kind="full")]
    scores = {roomy.full.digest: 100.0, uniform_of(roomy, 8, "awq").digest: 90.0}
    with pytest.raises(NotReachedError, match="nothing kept 95 %"):
        outcome(roomy, records, scores, goal=KeepScore(roomy, 0.95))


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_knee_is_never_worse_than_a_uniform_allocation_that_is_no_larger(
    roomy: ModelSpace, method: str
) -> None:
    mixed = uniform_of(roomy, 4, "awq").replace({roomy.keys[0]: Choice(8, "gptq")})
    rival, large = uniform_of(roomy, 4, method), uniform_of(roomy, 8, "awq")
    scores = {
        uniform_of(roomy, 2, "gptq").digest: 10.0,
        rival.digest: 70.0,
        mixed.digest: 88.0,
        large.digest: 90.0,
    }
    goal, records = WholeFront(roomy), [record(roomy, mixed, 88)]
    found, _ = outcome(roomy, records, scores, goal=goal)
    assert found.winner.allocation == mixed
    assert found.best_uniform.digest == rival.digest
    better = Finish({rival.digest: 20.0, large.digest: 5.0})
    found, _ = outcome(roomy, records, scores, better, goal)
    assert found.winner.allocation == rival
    assert found.score.mean == 90


def test_full_precision_is_recommended_where_it_is_a_choice_alone(
    toy: ModelSpec, roomy: ModelSpace
) -> None:
    for choices, is_choice in ((BOTH, False), ((*BOTH, Choice(16)), True)):
        space = ModelSpace(toy, Scheme(), choices, Budget(16.0))
        records = [replace(record(space, space.full, 100), kind="full")]
        found, _ = outcome(space, records, {space.full.digest: 100.0})
        assert (found.winner.allocation == roomy.full) is is_choice


def test_what_is_kept_of_the_score_is_a_share_with_its_interval(
    space: ModelSpace,
) -> None:
    first = proposals(space)[0]
    scores = {first.digest: 40.0, space.full.digest: 50.0}
    found, _ = outcome(space, [record(space, first, 40)], scores)
    assert found.retained.mean == pytest.approx(0.8)
    # every sample lies 10 below, both means have a standard error of 1 / sqrt(1000):
    # where both are d higher, the share is (40 + d) / (50 + d), or 0.8 + 0.2 d / 50
    reach = 1.96 * 0.2 / 50 / 1000**0.5
    assert found.retained.ci95 == pytest.approx([0.8 - reach, 0.8 + reach], abs=3e-5)
