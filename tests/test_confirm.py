from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.confirm import Measured, confirm, front_of, importances
from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.records import TrialRecord
from allocator.goals import WithinBudget
from allocator.space import ModelSpace

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec

CHOICES = (Choice(2, "gptq"), Choice(4, "gptq"), Choice(16))


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    # between the sizes at 2 and at 4 bits
    return ModelSpace(toy, Scheme(), CHOICES, Budget(4.0))


def record(space: ModelSpace, allocation: Allocation, score: float) -> TrialRecord:
    return TrialRecord(allocation, score, space.bpw(allocation), "proposal", "")


def proposals(space: ModelSpace) -> list[Allocation]:
    """The smallest allocation with one group widened, for each small group."""
    smallest = space.smallest
    wide = [smallest.replace({key: Choice(4, "gptq")}) for key in space.keys]
    return [allocation for allocation in wide if space.fits(allocation)]


def evaluation(scores: dict[str, float], default: float = 0.0):
    asked: list[str] = []

    def evaluate(allocation: Allocation) -> Measured:
        asked.append(allocation.digest)
        mean = scores.get(allocation.digest, default)
        # two samples around the mean
        return Measured(allocation, (mean - 1, mean + 1), allocation.digest)

    return evaluate, asked


def outcome(
    space: ModelSpace,
    records: list[TrialRecord],
    scores: dict[str, float],
    finish=lambda measured: measured,
):
    evaluate, asked = evaluation(scores)
    found = confirm(
        space,
        records,
        WithinBudget(space),
        evaluate=evaluate,
        finish=finish,
        progress=lambda *_: None,
        seed=0,
    )
    return found, asked


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


def test_the_front_holds_what_nothing_smaller_beats(space: ModelSpace) -> None:
    four = Allocation.uniform(space.spec, Choice(4, "gptq"))
    first, second = sorted(proposals(space), key=space.bpw)[:2]
    records = [
        record(space, four, 80),
        record(space, first, 50),
        record(space, space.smallest, 50),
        record(space, second, 70),
    ]
    members = [member.allocation for member in front_of(records)]
    # `first` scores no more than the smaller uniform allocation
    assert members == [space.smallest, second, four]


def test_importance_of_too_few_trials_says_so(space: ModelSpace) -> None:
    records = [record(space, a, score) for score, a in enumerate(proposals(space))]
    found = importances(space, records, 0)
    assert found.component_reason
    assert found.group_reason
    assert {name for name, _ in found.component} == {"vision", "connector", "language"}
    assert [name for name, _ in found.group] == list(space.keys)
