"""Races over tables of scores, written down by hand or drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.search.elimination import TIE, Race, Racer
from allocator.search.measured import Measured
from evals.subsets import Subsets

if TYPE_CHECKING:
    from collections.abc import Sequence

TOTAL = 2_000
LOOKS = Subsets.of(range(TOTAL))


class Entered(Racer):
    """One whose scores are in a table; the sizes that it was scored on are noted."""

    def __init__(self, name: str, row: Sequence[float], bpw: float = 4.0) -> None:
        self.row, self.asked, self.has = np.array(row), list[int](), 0
        allocation = Allocation(((name, Choice(4, "gptq")),))
        super().__init__(allocation, bpw, self.on, lambda: self.has)

    def on(self, size: int) -> Measured:
        self.asked.append(size)
        size = self.has = max(size, self.has)
        seen = LOOKS.places(size)
        values = tuple(self.row[list(seen)].tolist())
        whole = size == TOTAL
        return Measured(self.allocation, values, "", seen=() if whole else seen)


def row(*wrong: int) -> list[float]:
    """100 but on the samples at some places of the order."""
    found = np.full(TOTAL, 100.0)
    found[[LOOKS.order[at] for at in wrong]] = 0
    return list(found)


def raced(*racers: Entered, hurries: bool = False) -> Race:
    pictures = np.arange(TOTAL)
    race = Race(racers, LOOKS, pictures, (), TIE, lambda: hurries)
    race.run()
    return race


def test_what_cannot_win_any_more_stops_and_two_see_everything() -> None:
    best = Entered("best", row(*range(0, TOTAL, 50)))
    second = Entered("second", row(*range(0, TOTAL, 25)))
    far = [Entered(f"far {n}", row(*range(n, TOTAL, 4))) for n in range(3)]
    race = raced(*far, second, best)
    assert [each.asked for each in far] == [[500]] * 3
    # two alone are left: nothing is looked at in between
    assert second.asked == best.asked == [500, TOTAL]
    assert race.choose() is best
    assert best.scored.is_whole


def test_of_what_cannot_be_told_apart_two_see_everything() -> None:
    # each wrong on one in 50, elsewhere
    alike = [Entered(f"{n}", row(*range(n, TOTAL, 50))) for n in range(6)]
    raced(*alike)
    counts = sorted(len(each.asked) for each in alike)
    # the first look has few samples: there tests alone stop anything
    assert counts == [2, 2, 2, 2, 3, 3]
    hurried = [Entered(f"{n}", row(*range(n, TOTAL, 50))) for n in range(6)]
    raced(*hurried, hurries=True)
    assert sorted(len(each.asked) for each in hurried) == [1, 1, 1, 1, 2, 2]


def test_what_was_scored_before_takes_part_as_far_as_it_goes() -> None:
    best, second = (Entered(f"{n}", row(*range(n, TOTAL, 50))) for n in range(2))
    known, half = (Entered(f"known {n}", row(*range(n, TOTAL, 4))) for n in range(2))
    known.has, half.has = TOTAL, 1_000
    race = raced(known, half, best, second)
    assert known.scored.is_whole
    assert half.scored.samples == 1_000
    assert race.choose() in (best, second)


def test_of_a_tie_the_smaller_wins_if_it_is_smaller_at_all() -> None:
    # 0.15 points are 3 samples of 2,000
    large = Entered("large", row(*range(0, 100, 5)), 4.0)
    for bpw, wins in ((3.9, True), (3.999, False)):
        small = Entered("small", row(*range(0, 100, 5), 1, 2, 3), bpw)
        assert raced(large, small).choose() is (small if wins else large)
    worse = Entered("worse", row(*range(0, 100, 5), 1, 2, 3, 4, 6), 3.9)
    assert raced(large, worse).choose() is large


def test_a_tie_is_not_decided_against_a_rival() -> None:
    large = Entered("large", row(*range(0, 100, 5)), 4.0)
    small = Entered("small", row(*range(0, 100, 5), 1, 2, 3), 3.5)
    large.given = True
    assert raced(large, small).choose() is large
    # a rival that is smaller is as good as anything
    large.given, small.given = False, True
    assert raced(large, small).choose() is small


def test_nothing_that_stopped_lies_above_the_winner_on_what_both_have() -> None:
    # three behind each other at first; the third is far better later on
    first = Entered("first", row(0, *range(600, 1_900)))
    second = Entered("second", row(0, 1, *range(600, 1_900)))
    late = Entered("late", row(*range(0, 40)))
    race = raced(first, second, late, hurries=True)
    assert late.asked == [500]
    assert race.choose() is first
    # one that is better from the start, and was stopped all the same
    early = Entered("early", row(1_999))
    early.found = early.on(500)
    again = Race([first, second, early], LOOKS, np.arange(TOTAL), (), TIE)
    assert again.choose() is early
    assert early.asked[-1] == TOTAL


def test_a_score_that_stopped_is_the_winners_less_what_that_gains() -> None:
    best = Entered("best", row(*range(1_000, 1_100)))
    other = Entered("other", row(*range(1_000, 1_120)))
    far = Entered("far", row(*range(0, 500, 2)))
    race = raced(best, other, far)
    winner = race.choose()
    assert winner is best
    # 50 on the 500 samples both have, where the winner has 100: of 95, 45
    held = race.held_against(far, winner)
    assert (held.mean, held.samples) == (pytest.approx(45), 500)
    assert len(held.values) == TOTAL
    assert race.held_against(other, winner) == other.scored


def test_what_has_no_score_takes_no_part_and_costs_nobody_the_race() -> None:
    best, other = (Entered(f"{n}", row(*range(n, TOTAL, 50))) for n in range(2))
    broken = Entered("broken", row())
    whole = broken.on

    def fails(size: int) -> Measured:
        found = whole(size)
        return Measured(found.allocation, (), "", failed="no number")

    broken.measure = fails
    race = raced(best, broken, other)
    assert race.choose() in (best, other)
    # where those that saw everything overflowed there, the next one does
    best.found = other.found = broken.found
    late = Entered("late", row(*range(300)))
    late.found = late.on(500)
    race = Race([best, other, late], LOOKS, np.arange(TOTAL), (), TIE)
    assert race.choose() is late
    assert late.asked == [500, TOTAL]


@pytest.mark.parametrize(
    ("total", "most"),
    # parts of 1,000, 2,000 and 4,000 samples; and of 250, which is few, and 500
    [(8_000, [8, 4, 2]), (16_000, [16, 8, 4, 2]), (1_000, [9, 2])],
)
def test_fewer_go_on_the_more_is_seen(total: int, most: list[int]) -> None:
    looks = Subsets.of(range(total))
    racers = [Entered(f"{n}", row()) for n in range(9)]
    race = Race(racers, looks, np.arange(total), (), TIE)
    count = len(looks.sizes) - 1
    found = [
        race._most(size, count - 1 - at) for at, size in enumerate(looks.sizes[:-1])
    ]
    assert found == most


def test_one_that_is_better_hardly_ever_stops() -> None:
    rng, lost = np.random.default_rng(0), 0
    # of 100, what each loses beside what all of them do
    losses = (0.0, 1.5, 1.5, 2.0, 3.0, 5.0)
    for _ in range(40):
        shared = rng.random(TOTAL) < 0.05
        rows = [
            np.where(shared | (rng.random(TOTAL) < 0.02 + loss / 100), 0.0, 100.0)
            for loss in losses
        ]
        racers = [Entered(f"{at}", own.tolist()) for at, own in enumerate(rows)]
        race = raced(*racers)
        won = losses[racers.index(race.choose())]
        gone = zip(losses, racers, strict=True)
        lost += any(loss < won - TIE for loss, e in gone if not e.scored.is_whole)
    assert lost <= 1
