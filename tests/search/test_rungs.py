from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.search.rungs import DRAWN, Rungs, spread_out
from allocator.strategies._base import Candidate
from allocator.study.looks import (
    DIVERGENCE,
    FEWEST,
    FEWEST_DRAWN,
    LADDER,
    SCORE,
    Looks,
)
from allocator.study.proposed import Proposed
from tests.searches import CHOICES, divergence, samples, score, space_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.spec import ModelSpec


def drawn(spec: ModelSpec, count: int, seed: int = 0) -> list[Allocation]:
    """Different allocations at random."""
    random, full = Random(seed), space_of(spec).full
    found: dict[str, Allocation] = {}
    while len(found) < count:
        each = full.replace({key: random.choice(CHOICES) for key in spec.keys})
        found[each.digest] = each
    return list(found.values())


# the divergence on few samples, then on more; and the score of many behind them
TWO = ((DIVERGENCE, 32, 6), (DIVERGENCE, 128, 1))
THREE = ((DIVERGENCE, 32, 8), (DIVERGENCE, 128, 3), (SCORE, 256, 1))
THREE_LOOKS = [((kind, size), outlive) for kind, size, outlive in THREE]


class Eyes:
    """Looks that are drawn, and a list of those taken."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.values: dict[tuple[str, str, int], float] = {}
        self.taken: list[tuple[str, str, int]] = []

    def __call__(self, allocation: Allocation, kind: str, size: int) -> float:
        self.taken.append((allocation.digest, kind, size))
        return self.of(allocation, kind, size)

    def of(self, allocation: Allocation, kind: str, size: int) -> float:
        key = allocation.digest, kind, size
        return self.values.setdefault(key, self.random.random())


def rungs_of(look: object, ladder: tuple[tuple[str, int, int], ...] = TWO) -> Rungs:
    prefix = ("vision", "connector")
    return Rungs(look, lambda a: a.part(prefix).digest, ladder)  # type: ignore[arg-type]


def candidates(allocations: Sequence[Allocation]) -> list[Candidate]:
    return [Candidate(each) for each in allocations]


@pytest.mark.parametrize("total", [256, 257, 400, 511, 512, 1000, 2417])
def test_few_samples_are_even_and_part_of_the_many(total: int) -> None:
    whole, sizes = samples(total, "s"), sorted({size for _, size, _ in LADDER})
    drawn = [spread_out(whole, size) for size in sizes]
    for few, many in pairwise(drawn):
        assert {each.id for each in few} < {each.id for each in many}
    for size, some in zip(sizes, drawn, strict=True):
        places = [whole.index(each) for each in some]
        assert len(set(places)) == size
        # steps differ by one at most, the last one to the end of the set included
        steps = [b - a for a, b in zip(places, [*places[1:], total], strict=True)]
        assert max(steps) - min(steps) <= 1
        assert places[0] == 0


def test_a_set_that_is_smaller_than_a_rung_is_taken_whole() -> None:
    assert spread_out(samples(20, "s"), 32) == samples(20, "s")


@pytest.mark.parametrize("seed", range(10))
def test_the_survivor_is_the_one_found_by_hand(toy: ModelSpec, seed: int) -> None:
    eyes, found = Eyes(seed), drawn(toy, 20, seed)
    survivor = rungs_of(eyes).survivor(candidates(found), ())
    # the six that diverge least on 32 samples, and of those the one that does on 128
    few = sorted(found, key=lambda a: eyes.of(a, DIVERGENCE, 32))[:6]
    assert survivor.allocation == min(few, key=lambda a: eyes.of(a, DIVERGENCE, 128))
    assert len(eyes.taken) == 20 + 6
    assert len(set(eyes.taken)) == len(eyes.taken)


@pytest.mark.parametrize("seed", range(5))
def test_the_last_rung_may_score_what_the_others_left(
    toy: ModelSpec, seed: int
) -> None:
    eyes, found = Eyes(seed), drawn(toy, 20, seed)
    survivor = rungs_of(eyes, THREE).survivor(candidates(found), ())
    few = sorted(found, key=lambda a: eyes.of(a, DIVERGENCE, 32))[:8]
    more = sorted(few, key=lambda a: eyes.of(a, DIVERGENCE, 128))[:3]

    def suggested(a: Allocation) -> float:
        # nothing was measured: what diverges is lost of a full score of 1
        return (1 - eyes.of(a, DIVERGENCE, 128) + eyes.of(a, SCORE, 256)) / 2

    assert survivor.allocation == max(more, key=suggested)
    assert len(eyes.taken) == 20 + 8 + 3


def test_what_got_further_before_does_not_begin_again(toy: ModelSpec) -> None:
    eyes, found = Eyes(), drawn(toy, 20)
    rungs = rungs_of(eyes)
    # the one that was seen on 128 samples is the best there and the worst on 32
    ahead = found[-1]
    eyes.values[ahead.digest, DIVERGENCE, 32] = 2.0
    rungs.learn(ahead, (DIVERGENCE, 128), -1.0)
    assert rungs.survivor(candidates(found), ()).allocation == ahead
    assert ahead.digest not in {digest for digest, _, _ in eyes.taken}


def test_a_single_rung_has_a_single_survivor(toy: ModelSpec) -> None:
    eyes, found = Eyes(), drawn(toy, 10)
    survivor = rungs_of(eyes, TWO[:1]).survivor(candidates(found), ())
    assert survivor.allocation == min(found, key=lambda a: eyes.of(a, DIVERGENCE, 32))
    assert {size for _, _, size in eyes.taken} == {32}


def test_of_equals_the_one_that_the_strategy_put_first_survives(toy: ModelSpec) -> None:
    for seed in range(5):
        found = drawn(toy, 12, seed)
        survivor = rungs_of(lambda *_: 0.25).survivor(candidates(found), ())
        assert survivor.allocation == found[0]


def test_candidates_of_one_prefix_are_looked_at_in_a_row(toy: ModelSpec) -> None:
    eyes, found = Eyes(), []
    for allocation in drawn(toy, 6):
        other = Choice(4, "awq") if allocation["language.all.ff"].bits != 4 else None
        language = {"language.all.ff": other or Choice(8, "awq")}
        found += [allocation, allocation.replace(language)]
    Random(1).shuffle(found)
    rungs = rungs_of(eyes)
    rungs.survivor(candidates(found), ())
    prefixes = {a.digest: rungs.prefix(a) for a in found}
    row = [prefixes[digest] for digest, _, size in eyes.taken if size == 32]
    changes = sum(a != b for a, b in pairwise(row))
    # six prefixes in a row of their own each: five changes
    assert changes == 5


def test_a_look_is_taken_once(toy: ModelSpec) -> None:
    eyes, found = Eyes(), drawn(toy, 10)
    rungs = rungs_of(eyes)
    rungs.survivor(candidates(found), ())
    rungs.survivor(candidates(found), ())
    assert len(set(eyes.taken)) == len(eyes.taken) == len(rungs.fresh)
    # all were seen on few samples the first time
    assert [size for _, _, size in eyes.taken[10:]].count(32) == 0


PLACE = ("a goal", 4.0)


def judged(
    rungs: Rungs, allocations: Sequence[Allocation], scores: Sequence[float]
) -> None:
    """Proposals that were measured, the first half of them drawn by chance."""
    half = len(allocations) // 2
    rungs.proposed = [
        Proposed(each, PLACE, at < half, value)
        for at, (each, value) in enumerate(zip(allocations, scores, strict=True))
    ]


def looked_at(
    rungs: Rungs, allocations: Sequence[Allocation], sign: float = 1.0
) -> list[tuple[Allocation, float]]:
    """Proposals that diverge as their score falls, or rises."""
    for each in allocations:
        for size in (32, 128):
            look = divergence(each) if sign > 0 else 1 - divergence(each)
            rungs.learn(each, (DIVERGENCE, size), look)
    measured = [(each, score(each)) for each in allocations]
    judged(rungs, allocations, [value for _, value in measured])
    return measured


def test_a_divergence_that_predicts_goes_on_being_looked_at(toy: ModelSpec) -> None:
    rungs = rungs_of(Eyes())
    looked_at(rungs, drawn(toy, 20))
    assert rungs.trusts()
    assert rungs.rungs() == TWO
    report = rungs.report(DIVERGENCE, 128)
    assert (report.count, report.controls) == (20, 10)
    assert report.spearman is not None
    assert report.spearman > 0.9


def test_a_divergence_that_does_not_predict_gives_way_to_scores(toy: ModelSpec) -> None:
    rungs = rungs_of(Eyes())
    looked_at(rungs, drawn(toy, 20), sign=-1)
    report = rungs.report(DIVERGENCE, 128)
    assert report.spearman is not None
    assert report.spearman < -0.6
    assert not rungs.trusts()
    assert rungs.rungs() == ((SCORE, 32, 6), (SCORE, 128, 1))
    everything = list(rungs.proposed)
    # one below the fewest pairs that say anything, then too few of them drawn
    rungs.proposed = everything[: FEWEST - 1]
    assert rungs.trusts()
    rungs.proposed = everything[11 - FEWEST :]
    assert not rungs.trusts()
    rungs.proposed = everything[11 - FEWEST_DRAWN :]
    assert rungs.trusts()


def test_baselines_say_nothing_for_a_divergence(toy: ModelSpec) -> None:
    rungs = rungs_of(Eyes())
    found = drawn(toy, 40)
    looked_at(rungs, found, sign=-1)
    rungs.proposed = rungs.proposed[10:30]
    # all the others agree as baselines do: nobody asks them
    for each in found[:10] + found[30:]:
        rungs.learn(each, (DIVERGENCE, 128), divergence(each))
    assert not rungs.trusts()


def test_what_is_within_other_budgets_is_not_compared(toy: ModelSpec) -> None:
    rungs, found = rungs_of(Eyes()), drawn(toy, 20)
    for at, each in enumerate(found):
        rungs.learn(each, (DIVERGENCE, 128), 0.1 * (at // 2 + 1) + 0.01 * (at % 2))
    # over budgets the look ranks all, within each it is the wrong way round
    rungs.proposed = [
        Proposed(each, ("front", at // 2), True, 80.0 - at // 2 + 0.1 * (at % 2))
        for at, each in enumerate(found)
    ]
    report = rungs.report(DIVERGENCE, 128)
    assert report.spearman is not None
    assert report.spearman < 0


def test_a_score_that_a_look_was_part_of_is_taken_without_it(toy: ModelSpec) -> None:
    rungs, found = rungs_of(Eyes(), THREE), drawn(toy, 6)
    rungs.total = 1000
    # what the 256 samples say is all there is: the other 744 say the opposite
    parts = [70.0, 71.0, 72.0, 73.0, 74.0, 75.0]
    others = [81.0, 80.9, 80.8, 80.7, 80.6, 80.5]
    for each, part in zip(found, parts, strict=True):
        rungs.learn(each, (SCORE, 256), part)
    wholes = [
        (256 * part + 744 * other) / 1000
        for part, other in zip(parts, others, strict=True)
    ]
    assert wholes == sorted(wholes)
    judged(rungs, found, wholes)
    report = rungs.report(SCORE, 256)
    assert report.spearman is not None
    assert report.spearman < -0.9


def test_scores_of_few_among_many_samples_are_learned_for_nothing(
    toy: ModelSpec,
) -> None:
    rungs, (one,) = rungs_of(Eyes(), THREE), drawn(toy, 1)
    values = [float(at) for at in range(256)]
    rungs.learn_parts(one, 256, values)
    # every eighth from 0 to 248, and every second from 0 to 254
    assert rungs.seen(one) == {(SCORE, 32): 124.0, (SCORE, 128): 127.0}
    assert len(rungs.fresh) == 2


def test_a_control_is_drawn_from_what_was_not_looked_at(toy: ModelSpec) -> None:
    found = candidates(drawn(toy, 20))
    chosen = set()
    for seed in range(40):
        rungs = rungs_of(Eyes(), THREE)
        for each in found[:5]:
            rungs.learn(each.allocation, (DIVERGENCE, 32), 0.1)
        few = rungs.drawn(found, np.random.default_rng(seed))
        assert len({each.allocation.digest for each in few}) == DRAWN
        chosen |= {found.index(each) for each in few}
    assert chosen == set(range(5, 20))


def test_no_divergence_chooses_a_control(toy: ModelSpec) -> None:
    eyes, found = Eyes(), candidates(drawn(toy, 4))
    rungs = rungs_of(eyes, THREE)
    best = max(found, key=lambda c: eyes.of(c.allocation, SCORE, 256))
    assert rungs.control(found) == best
    # all four were looked at all the same: they say how looks are spread
    for each in found:
        assert {key for key, _ in THREE_LOOKS} <= rungs.seen(each.allocation).keys()
    assert rungs_of(eyes, TWO).control(found) == found[0]


def test_controls_come_between_proposals_while_looks_are_trusted(
    toy: ModelSpec,
) -> None:
    rungs = rungs_of(Eyes(), THREE)
    due = [rungs.controls_due(made) for made in range(21)]
    assert due == sorted(due)
    assert (due[0], due[11], due[-1]) == (0, 4, 4)
    short = rungs_of(Eyes(), TWO)
    assert [short.controls_due(made) for made in (0, 11, 20)] == [0, 5, 5]
    looked_at(short, drawn(toy, 20), sign=-1)
    assert short.controls_due(20) == 0
    assert rungs_of(Eyes(), ()).controls_due(20) == 0


def test_scores_of_few_samples_choose_the_highest(toy: ModelSpec) -> None:
    eyes = Eyes(3)
    rungs = rungs_of(eyes)
    old, new = drawn(toy, 20)[:10], drawn(toy, 30)[20:]
    measured = looked_at(rungs, old, sign=-1)
    survivor = rungs.survivor(candidates(new), measured)
    assert {kind for _, kind, _ in eyes.taken} == {SCORE}
    few = sorted(new, key=lambda a: -eyes.of(a, SCORE, 32))[:6]
    assert survivor.allocation == max(few, key=lambda a: eyes.of(a, SCORE, 128))


def test_equal_scores_say_nothing_about_a_divergence(toy: ModelSpec) -> None:
    rungs = rungs_of(Eyes())
    found = drawn(toy, 20)
    looked_at(rungs, found, sign=-1)
    judged(rungs, found, [70.0] * 20)
    assert rungs.trusts()


def test_a_ladder_without_rungs_trusts_and_reports_nothing(toy: ModelSpec) -> None:
    rungs = rungs_of(Eyes(), ())
    measured = [(each, score(each)) for each in drawn(toy, 20)]
    judged(rungs, *zip(*measured, strict=True))
    assert rungs.trusts()
    assert rungs.reports() == ()
    assert rungs.estimates(measured) == ()


def test_reports_are_of_the_rungs_that_saw_something_measured(toy: ModelSpec) -> None:
    rungs, found = rungs_of(Eyes(), THREE), drawn(toy, 6)
    rungs.total = 1000
    for each in found:
        rungs.learn(each, (DIVERGENCE, 32), divergence(each))
    for each in found[:2]:
        rungs.learn(each, (SCORE, 256), score(each))
    judged(rungs, found[:4], [score(each) for each in found[:4]])
    reports = rungs.reports()
    assert [(r.kind, r.samples, r.count) for r in reports] == [
        (DIVERGENCE, 32, 4),
        (SCORE, 256, 2),
    ]
    # of two or four there is no interval worth the name, or a very wide one
    assert [r.ci95 is None for r in reports] == [False, True]


def test_estimates_lie_on_the_line_through_what_was_measured(toy: ModelSpec) -> None:
    rungs, found = rungs_of(Eyes()), drawn(toy, 5)
    looks = (0.1, 0.2, 0.4, 0.3, 0.25)
    for each, look in zip(found, looks, strict=True):
        rungs.learn(each, (DIVERGENCE, 32), look)
    rungs.learn(found[4], (DIVERGENCE, 128), 0.3)
    # 90 - 100 x divergence on 32 samples; nothing measured was seen on 128
    measured = list(zip(found[:3], (80.0, 70.0, 50.0), strict=True))
    estimates = {a.digest: value for a, value in rungs.estimates(measured)}
    assert estimates[found[3].digest] == pytest.approx(60)
    # without a line the score is taken to fall from the best one to nothing: 80 (1 - d)
    assert estimates[found[4].digest] == pytest.approx(80 * (1 - 0.3))


def test_an_estimate_follows_the_largest_look(toy: ModelSpec) -> None:
    rungs, found = rungs_of(Eyes()), drawn(toy, 4)
    for each, few, many in zip(
        found[:3], (0.1, 0.2, 0.4), (0.3, 0.2, 0.1), strict=True
    ):
        rungs.learn(each, (DIVERGENCE, 32), few)
        rungs.learn(each, (DIVERGENCE, 128), many)
    rungs.learn(found[3], (DIVERGENCE, 32), 0.9)
    rungs.learn(found[3], (DIVERGENCE, 128), 0.4)
    # on 128 samples: 50 at 0.3, 60 at 0.2, 70 at 0.1
    measured = list(zip(found[:3], (50.0, 60.0, 70.0), strict=True))
    estimates = {a.digest: value for a, value in rungs.estimates(measured)}
    assert estimates[found[3].digest] == pytest.approx(40)


def test_a_higher_divergence_never_suggests_a_higher_score(toy: ModelSpec) -> None:
    rungs, found = rungs_of(Eyes()), drawn(toy, 4)
    for each, look in zip(found, (0.1, 0.2, 0.3, 0.6), strict=True):
        rungs.learn(each, (DIVERGENCE, 32), look)
    measured = list(zip(found[:3], (50.0, 60.0, 70.0), strict=True))
    estimates = {a.digest: value for a, value in rungs.estimates(measured)}
    # their mean, by a line that does not fall
    assert estimates[found[3].digest] == pytest.approx(60)


def test_looks_that_a_study_keeps_are_read_without_a_model(toy: ModelSpec) -> None:
    one, other = drawn(toy, 2)
    looks = Looks.recalled([("5", one, (DIVERGENCE, 32), 0.5)])
    assert looks.seen(one) == {(DIVERGENCE, 32): 0.5}
    assert looks.seen(other) == {}
