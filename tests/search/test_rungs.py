from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allocator.search.rungs import DRAWN, Rungs, spread_out
from allocator.strategies._base import Candidate
from allocator.study.looks import (
    DIVERGENCE,
    LADDER,
    SCORE,
)
from tests.searches import THREE, TWO, drawn, looked_at, samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec


THREE_LOOKS = [((kind, size), outlive) for kind, size, outlive in THREE]


class Eyes:
    """Looks that are drawn, and a list of those taken."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.values: dict[tuple[str, str, int], float] = {}
        self.taken: list[tuple[str, str, int]] = []

    def __call__(
        self, allocation: Allocation, kind: str, size: int, ahead: Any = None
    ) -> float:
        del ahead
        self.taken.append((allocation.digest, kind, size))
        return self.of(allocation, kind, size)

    def of(self, allocation: Allocation, kind: str, size: int) -> float:
        key = allocation.digest, kind, size
        return self.values.setdefault(key, self.random.random())


def rungs_of(look: object, ladder: tuple[tuple[str, int, int], ...] = TWO) -> Rungs:
    return Rungs(look, lambda a: a.digest, ladder)  # type: ignore[arg-type]


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


def test_looks_are_taken_in_order_of_execution_and_known_in_the_order_given(
    toy: ModelSpec,
) -> None:
    told: list[tuple[Allocation, Any]] = []

    def look(allocation: Allocation, kind: str, size: int, ahead: Any) -> float:
        del kind, size
        told.append((allocation, ahead))
        return 0.5

    def order(allocation: Allocation) -> list[str]:
        return [str(choice) for _, choice in allocation]

    found = drawn(toy, 6)
    rungs = Rungs(look, order, TWO)
    known = found[2]
    rungs.learn(known, (DIVERGENCE, 32), 0.25)
    values = rungs.values([*found, found[0]], DIVERGENCE, 32)
    assert values == [0.25 if each == known else 0.5 for each in [*found, found[0]]]
    in_order = sorted((a for a in found if a != known), key=order)
    # each is told what is looked at next, and the last one that nobody knows
    assert told == list(zip(in_order, [*in_order[1:], None], strict=True))
    assert [a for a, _, _ in rungs.fresh] == [a for a in found if a != known]
    assert list(rungs.looks) == [a.digest for a in [known, *found[:2], *found[3:]]]


def test_looks_before_a_failure_are_known(toy: ModelSpec) -> None:
    def look(allocation: Allocation, *_: Any) -> float:
        if allocation == found[1]:
            raise TimeoutError
        return 0.5

    found = drawn(toy, 3)
    rungs = Rungs(look, found.index, TWO)
    with pytest.raises(TimeoutError):
        rungs.values(found, DIVERGENCE, 32)
    assert [a for a, _, _ in rungs.fresh] == found[:1]


def test_a_look_is_taken_once(toy: ModelSpec) -> None:
    eyes, found = Eyes(), drawn(toy, 10)
    rungs = rungs_of(eyes)
    rungs.survivor(candidates(found), ())
    rungs.survivor(candidates(found), ())
    assert len(set(eyes.taken)) == len(eyes.taken) == len(rungs.fresh)
    # all were seen on few samples the first time
    assert [size for _, _, size in eyes.taken[10:]].count(32) == 0


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
