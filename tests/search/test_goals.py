from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Choice
from allocator.core.errors import NotReachedError
from allocator.core.records import TrialRecord
from allocator.search.goals import (
    FINALISTS,
    SWEEP,
    WholeFront,
    WithinBudget,
    goal_of,
)
from allocator.search.keep_score import MISSES, KeepScore
from allocator.search.measured import Measured
from allocator.space.model import limit_of, within
from tests.searches import asked_for, score, space_of

if TYPE_CHECKING:
    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.goals import Goal
    from allocator.space.model import ModelSpace


def wide(toy: ModelSpec) -> ModelSpace:
    """Room for everything."""
    return space_of(toy, asked_for(budget="16"))


def record(
    space: ModelSpace,
    allocation: Allocation,
    value: float,
    kind: str = "proposal",
    **about: object,
) -> TrialRecord:
    size = space.bpw(allocation)
    return TrialRecord(allocation, value, size, kind, "", **about)  # type: ignore[arg-type]


def full(space: ModelSpace, value: float = 90.0) -> TrialRecord:
    return record(space, space.full, value, "full")


def ladder(space: ModelSpace) -> list[Allocation]:
    """From everything at 2 bits to everything at 8, a group wider at a time."""
    found = [space.alike(Choice(2, "awq"))]
    for bits in (4, 8):
        for key in space.keys:
            found.append(found[-1].replace({key: Choice(bits, "awq")}))
    return found


def measured(space: ModelSpace, allocation: Allocation, mean: float) -> Measured:
    del space
    return Measured(allocation, (mean,) * 2_000, allocation.digest)


def test_each_request_has_its_goal(toy: ModelSpec) -> None:
    for options, kind, name in (
        ({}, "budget", None),
        ({"front": True}, "front", "front/model"),
        ({"min_score": 0.98}, "min-score", "min-score 0.98 at 0.95/model"),
        (
            {"min_score": 0.9, "budget_scope": "quantized"},
            "min-score",
            "min-score 0.9 at 0.95/quantized",
        ),
    ):
        asked = asked_for(**options)
        goal = goal_of(asked, space_of(toy, asked))
        assert goal.kind == kind
        assert name is None or goal.name == name


def test_equal_budgets_have_one_name_and_others_another(toy: ModelSpec) -> None:
    def name(budget: str, scope: str = "model") -> str:
        asked = asked_for(budget=budget, budget_scope=scope)
        return goal_of(asked, space_of(toy, asked)).name

    # 5 bits of 102,400 parameters are 64,000 bytes
    assert name("5") == name("5.00") == name("64000B")
    assert len({name("5"), name("5.1"), name("5", "quantized")}) == 3


def test_a_budget_is_gone_on_with_until_nothing_is_left_in_it(toy: ModelSpec) -> None:
    goal = WithinBudget(space_of(toy))
    assert goal.space([]) is goal.inside
    assert goal.space([], {4.9}) is goal.inside
    assert goal.space([], {5.0}) is None


def test_finalists_of_a_budget_are_its_five_best_the_smaller_of_equals_first(
    toy: ModelSpec,
) -> None:
    space = space_of(toy)
    steps = [a for a in ladder(space) if space.fits(a)][:7]
    assert len(steps) == 7
    values = (10, 70, 60, 60, 50, 40, 30)
    rows = [record(space, a, v) for a, v in zip(steps, values, strict=True)]
    over = record(space, space.alike(Choice(8, "awq")), 99.0)
    found = WithinBudget(space).finalists([*rows, over, full(space)])
    assert [r.score for r in found] == [70, 60, 60, 50, 40]
    assert found[1].bpw < found[2].bpw
    assert WithinBudget(space).best(rows) == rows[1]


@pytest.mark.parametrize("goal", ["budget", "front", "min-score"])
def test_full_precision_is_no_answer_where_sixteen_bits_are_no_choice(
    toy: ModelSpec, goal: str
) -> None:
    space = wide(toy)
    goals: dict[str, Goal] = {
        "budget": WithinBudget(space),
        "front": WholeFront(space),
        "min-score": KeepScore(space, 1.0),
    }
    rows = [full(space), *(record(space, a, score(a)) for a in ladder(space))]
    found = goals[goal].finalists(rows)
    assert found
    assert space.full not in [each.allocation for each in found]
    assert goals[goal].best(rows) != rows[0]


def test_a_front_visits_all_its_budgets_in_turn(toy: ModelSpec) -> None:
    space = wide(toy)
    goal = WholeFront(space)
    rows, visited = [full(space)], []
    for step in range(2 * SWEEP):
        at = goal.space(rows)
        assert at is not None
        visited.append(limit_of(at))
        allocation = ladder(space)[step]
        rows.append(record(space, allocation, 50, budget=goal.name, limit=visited[-1]))
    # from the smallest to the widest uniform allocation, by equal ratios
    assert visited[:SWEEP] == sorted(set(visited))
    assert visited[SWEEP:] == visited[:SWEEP]
    ratios = [b / a for a, b in itertools.pairwise(visited[:SWEEP])]
    assert ratios == pytest.approx([ratios[0]] * (SWEEP - 1))
    low, high = (space.bpw(space.alike(Choice(bits, "awq"))) for bits in (2, 8))
    assert low < visited[0]
    assert visited[SWEEP - 1] < high
    assert ratios[0] == pytest.approx((high / low) ** (1 / SWEEP))


def test_a_front_leaves_out_budgets_in_which_nothing_is_left(toy: ModelSpec) -> None:
    space = wide(toy)
    goal = WholeFront(space)
    limits = [limit_of(each) for each in goal.spaces]
    first = goal.space([], set(limits[:3]))
    assert first is not None
    assert limit_of(first) == limits[3]
    assert goal.space([], set(limits)) is None


def test_proposals_for_other_goals_do_not_move_a_front(toy: ModelSpec) -> None:
    space = wide(toy)
    goal = WholeFront(space)
    rows = [record(space, a, 50, budget="5", limit=5.0) for a in ladder(space)[:3]]
    first = goal.space(rows)
    assert first is not None
    assert limit_of(first) == limit_of(goal.spaces[0])


def test_finalists_of_a_front_hold_its_ends_and_its_knee(toy: ModelSpec) -> None:
    space = wide(toy)
    steps = ladder(space)
    # ten members; the score jumps at the fourth and then rises slowly
    values = [10, 11, 12, 80, 81, 82, 83, 84, 85, 86]
    rows = [record(space, a, v) for a, v in zip(steps, values, strict=False)]
    found = WholeFront(space).finalists(rows)
    assert len(found) <= FINALISTS
    assert {rows[0], rows[3], rows[9]} <= set(found)
    assert WholeFront(space).best(rows) == rows[3]
    assert WholeFront(space).finalists(rows[:3]) == rows[:3]


def test_the_knee_is_recommended_of_what_was_measured(toy: ModelSpec) -> None:
    space = wide(toy)
    steps = ladder(space)[:4]
    known = [
        measured(space, a, v) for a, v in zip(steps, (10, 80, 20, 82), strict=True)
    ]
    chosen = WholeFront(space).choose(known, measured(space, space.full, 90))
    assert chosen == known[1]


def test_a_control_that_misses_says_nothing_against_a_budget(toy: ModelSpec) -> None:
    space = wide(toy)
    goal, steps = KeepScore(space, 0.9), ladder(space)
    rows = [full(space), record(space, steps[18], 89, "uniform")]
    within = goal.space(rows)
    assert within is not None
    limit = limit_of(within)
    missed = [
        record(space, each, 10, budget=goal.name, limit=limit)
        for each in steps[:MISSES]
    ]
    controls = [replace(each, control=True) for each in missed]
    same, wider = goal.space([*rows, *controls]), goal.space([*rows, *missed])
    assert same is not None
    assert wider is not None
    assert limit_of(same) == limit < limit_of(wider)


def bisected(
    toy: ModelSpec, share: float, *, restart: bool = False
) -> tuple[list[TrialRecord], list[float], KeepScore]:
    """A search whose proposals are the best of a ladder that fits.

    `restart` makes the goal anew for each proposal, as a resumed search does.
    """
    space = wide(toy)
    goal, steps = KeepScore(space, share), ladder(space)
    # as baselines are measured first
    rows = [full(space)]
    rows += [record(space, steps[at], score(steps[at]), "uniform") for at in (0, 9, 18)]
    limits: list[float] = []
    spent: set[float] = set()
    for _ in range(200):
        if restart:
            goal = KeepScore(wide(toy), share)
        at = goal.space(rows, spent)
        if at is None:
            return rows, limits, goal
        limits.append(limit_of(at))
        fitting = [a for a in steps if at.fits(a)]
        # the worse of the best as well, so that some proposals miss within a budget
        tried = {r.allocation for r in rows}
        new = [a for a in reversed(fitting) if a not in tried]
        if not new:
            spent.add(limits[-1])
            continue
        value = score(new[0])
        rows.append(record(space, new[0], value, budget=goal.name, limit=limits[-1]))
    raise AssertionError("it does not end")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98])
def test_the_size_is_bisected_down_to_the_smallest_that_keeps_the_score(
    toy: ModelSpec, share: float
) -> None:
    rows, limits, goal = bisected(toy, share)
    # scores rise along the ladder: the first that keeps the score is the smallest
    optimum = next(a for a in ladder(goal.inside) if score(a) >= share * 90)
    best = goal.best(rows)
    assert best is not None
    assert best.allocation == optimum
    assert goal.finalists(rows)[0] == best
    # 19 rungs of the ladder need 5 halvings, each with at most three misses
    assert len(limits) <= 5 * (MISSES + 1)


def test_a_bisection_that_is_restarted_goes_the_same_way(toy: ModelSpec) -> None:
    assert bisected(toy, 0.9)[1] == bisected(toy, 0.9, restart=True)[1]


def test_a_score_that_nothing_keeps_ends_at_the_widest(toy: ModelSpec) -> None:
    rows, limits, goal = bisected(toy, 1.0)
    assert limits == sorted(limits)
    best = goal.best(rows)
    assert best is not None
    assert best.allocation == space_of(toy).alike(Choice(8, "awq"))
    assert len(goal.finalists(rows)) == FINALISTS


def test_before_full_precision_is_measured_nothing_keeps_the_score(
    toy: ModelSpec,
) -> None:
    space = wide(toy)
    rows = [record(space, a, score(a)) for a in ladder(space)[:3]]
    assert KeepScore(space, 0.1).best(rows) == rows[2]


def test_the_smallest_that_keeps_the_score_on_the_evaluation_set_is_chosen(
    toy: ModelSpec,
) -> None:
    space = wide(toy)
    steps = ladder(space)
    values = (80.0, 88.2, 88.4, 90.0)
    known = [measured(space, a, v) for a, v in zip(steps, values, strict=False)]
    goal, whole = KeepScore(space, 0.98), measured(space, space.full, 90.0)
    # 98 % of 90 are 88.2; one lost sample of 2,001 takes 88.2 / 2001 = 0.044 away, and
    # is a standard error of as much: 0.044 x (1 + 1.645) = 0.12 are asked beyond
    assert goal.choose(list(reversed(known)), whole) == known[2]
    assert goal.sure(known[2], whole).share == pytest.approx(
        0.98 + 0.083 / 90, abs=1e-4
    )


def test_a_score_that_is_not_kept_says_how_near_it_came(toy: ModelSpec) -> None:
    space = wide(toy)
    known = [measured(space, ladder(space)[at], 60.0 + at) for at in range(3)]
    with pytest.raises(NotReachedError) as refused:
        KeepScore(space, 0.98).choose(known, measured(space, space.full, 80.0))
    said = str(refused.value)
    assert refused.value.exit_code == 3
    # 62 of 80
    assert "98 % of full precision's 80.00" in said
    assert "62.00 (77.5 %, surely 77.4 %)" in said
    assert "with probability 95 %" in said
    assert f"{known[2].allocation and space.bpw(known[2].allocation):.3f} bpw" in said


def test_a_space_within_another_budget_differs_in_that_alone(toy: ModelSpec) -> None:
    space = space_of(toy, asked_for(budget_scope="quantized"))
    narrow = within(space, 3.0)
    assert limit_of(narrow) == 3.0
    assert narrow.budget.scope == "quantized"
    assert narrow.choices == space.choices
    # 3 bits of 98,304 weights
    assert narrow.room == pytest.approx(36_864)
