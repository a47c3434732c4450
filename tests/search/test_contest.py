from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import NotReachedError
from allocator.search.contest import Contest
from allocator.search.goals import WithinBudget
from allocator.search.keep_score import KeepScore
from allocator.search.measured import Measured
from tests.search.confirming import record, roomy_space, uniform_of

if TYPE_CHECKING:
    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.goals import Goal
    from allocator.space.model import ModelSpace


@pytest.fixture
def roomy(toy: ModelSpec) -> ModelSpace:
    return roomy_space(toy)


def scored(allocation: Allocation, wrong: range, samples: int = 1_000) -> Measured:
    """100 on each sample but those."""
    values = tuple(0.0 if at in wrong else 100.0 for at in range(samples))
    return Measured(allocation, values, allocation.digest)


def contest_of(
    space: ModelSpace, *measured: Measured, goal: Goal | None = None
) -> Contest:
    full = scored(space.full, range(0))
    known = {m.allocation.digest: m for m in measured}
    found = Contest(
        goal or WithinBudget(space),
        full,
        lambda allocation: known[allocation.digest],
        lambda bank: bank,
        seed=0,
    )
    for each in measured:
        found.measured(each.allocation)
    return found


def test_an_interval_widens_by_what_could_have_been_chosen_alone(
    roomy: ModelSpace,
) -> None:
    low, mid, high = (uniform_of(roomy, bits, "awq") for bits in (2, 4, 8))
    best = scored(high, range(100))
    near, far = scored(mid, range(50, 155)), scored(low, range(600))
    alone = contest_of(roomy, best).score(best)
    assert contest_of(roomy, best, far).score(best) == alone
    chosen = contest_of(roomy, best, near, far).score(best)
    assert chosen.low < alone.low
    assert (chosen.mean, chosen.high) == (alone.mean, alone.high)


def test_weights_that_a_rival_was_finished_with_are_a_choice_as_well(
    roomy: ModelSpace,
) -> None:
    winner = scored(uniform_of(roomy, 8, "awq"), range(100))
    rival = scored(uniform_of(roomy, 4, "awq"), range(500, 611))
    again = replace(scored(rival.allocation, range(120, 230)), finalized="in sequence")
    contest = contest_of(roomy, winner, rival)
    plain = contest_of(roomy, winner, again).versus(winner, again)
    contest.note(again)
    gain = contest.versus(winner, again)
    assert gain.mean == plain.mean == pytest.approx(1)
    assert gain.high > plain.high


def test_what_has_no_score_takes_no_part(roomy: ModelSpace) -> None:
    best = scored(uniform_of(roomy, 8, "awq"), range(100))
    failed = Measured(uniform_of(roomy, 2, "awq"), (), "", failed="not finite")
    contest = contest_of(roomy, best, failed)
    assert contest.score(best) == contest_of(roomy, best).score(best)
    assert contest.full_precision().mean == 100


def surely(space: ModelSpace, share: float = 0.9) -> KeepScore:
    return KeepScore(space, share, 0.95, (1_000,))


def test_a_score_is_kept_by_its_bound_and_not_by_its_mean(roomy: ModelSpace) -> None:
    low, high = (uniform_of(roomy, bits, "awq") for bits in (2, 8))
    full = scored(roomy.full, range(0))
    # 91 of 90 are kept, with a standard error of sqrt(0.91 x 0.09 / 1000) = 0.9 points
    just, safe = scored(low, range(90)), scored(high, range(70))
    assert surely(roomy).choose([safe, just], full) == safe
    half = replace(surely(roomy), confidence=0.5)
    assert half.choose([safe, just], full) == just
    with pytest.raises(NotReachedError, match="with probability 95 %"):
        surely(roomy).choose([just], full)


def test_after_one_that_fails_none_is_tested(roomy: ModelSpace) -> None:
    low, mid, high = (uniform_of(roomy, bits, "awq") for bits in (2, 4, 8))
    full = scored(roomy.full, range(0))
    safe, small = scored(high, range(50)), scored(low, range(50))
    bad = scored(mid, range(300))
    assert surely(roomy).choose([safe, small, bad], full) == small
    assert surely(roomy).choose([safe, bad, small], full) == safe
    # what is larger than one that passed is passed over
    assert surely(roomy).choose([small, bad, safe], full) == small


def test_weights_that_lose_the_share_are_not_taken(roomy: ModelSpace) -> None:
    low = scored(uniform_of(roomy, 2, "awq"), range(70))
    # as finished: 93.5 in place of 93, with a spread that says nothing
    wild = [1_000.0 if at < 93 else 0.5 for at in range(1_000)]
    again = replace(low, values=tuple(wild), finalized="in sequence")
    assert again.mean > low.mean
    contest = contest_of(roomy, low, goal=surely(roomy))
    contest.finish = lambda _: again
    assert contest.choose([low]) == low
    assert contest.last(low) == low


def test_finalists_are_the_smallest_by_ever_safer_margins(roomy: ModelSpace) -> None:
    steps = [uniform_of(roomy, bits, "awq") for bits in (2, 4, 8)]
    full = scored(roomy.full, range(0))
    # of 1000 samples 20 may be lost; 2 % lost are a standard error of 0.44 points
    lost = (30, 18, 1)
    rows = {a.digest: scored(a, range(n)) for a, n in zip(steps, lost, strict=True)}
    values = {key: m.values for key, m in rows.items()} | {
        full.allocation.digest: full.values
    }
    records = [replace(record(roomy, roomy.full, 100), kind="full")]
    records += [record(roomy, m.allocation, m.mean) for m in rows.values()]
    plain = KeepScore(roomy, 0.98, 0.95, (1_000,))
    aware = replace(plain, values=lambda: values)
    assert [r.allocation for r in plain.finalists(records)] == [steps[1]]
    # the middle one has 0.2 points to spare, of 0.8 that are asked for
    assert [r.allocation for r in aware.finalists(records)] == [steps[2]]
    less = replace(aware, confidence=0.6)
    assert [r.allocation for r in less.finalists(records)] == steps[1:]


def test_each_probability_is_a_goal_of_its_own(roomy: ModelSpace) -> None:
    names = {
        KeepScore(roomy, 0.98, confidence).name
        for confidence in (0.5, 0.95, 0.95000001, 0.9)
    }
    assert len(names) == 4
