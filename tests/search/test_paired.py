from __future__ import annotations

import numpy as np
import pytest

from allocator.search.paired import could_be_best, is_better

SAMPLES = 250


def drawn(rng: np.random.Generator, shares: list[float]) -> list[list[float]]:
    """Right or wrong for each sample, more alike than chance: rows of 100 and 0."""
    common = rng.uniform(size=SAMPLES)
    own = rng.uniform(size=(len(shares), SAMPLES))
    told = np.where(rng.uniform(size=own.shape) < 0.8, common, own)
    return (100.0 * (told < np.array(shares)[:, None])).tolist()


def test_what_is_surely_worse_stops_and_what_has_no_score_does_too() -> None:
    good, near = [100.0] * 200 + [0.0] * 50, [100.0] * 198 + [0.0] * 52
    bad: list[float] = [100.0] * 100 + [0.0] * 150
    assert could_be_best([bad, good, [], near]) == [1, 3]
    assert could_be_best([good, good]) == [0, 1]
    assert could_be_best([[], []]) == []
    assert could_be_best([[1.0, 0.0]]) == [0]


@pytest.mark.parametrize("rivals", [1, 5, 12])
def test_the_best_is_stopped_more_seldom_than_the_error(rivals: int) -> None:
    # the others are worse by a point: some look better, and may not stop the best
    rng, lost, runs = np.random.default_rng(rivals), 0, 400
    for _ in range(runs):
        rows = drawn(rng, [0.85, *[0.84] * rivals])
        lost += 0 not in could_be_best(rows)
    # of 400 races 20 are 5 %; three standard errors are 13
    assert lost / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_much_worse_ones_are_stopped_mostly() -> None:
    rng, runs = np.random.default_rng(0), 100
    left = sum(len(could_be_best(drawn(rng, [0.85, *[0.70] * 9]))) for _ in range(runs))
    assert left / runs < 2


@pytest.mark.parametrize("error", [0.05, 0.5 / 3])
def test_a_test_errs_as_seldom_as_it_says(error: float) -> None:
    rng, runs = np.random.default_rng(1), 1_000
    wrong = sum(is_better(*drawn(rng, [0.8, 0.8]), error) for _ in range(runs))
    assert wrong / runs <= error + 3 * (error * (1 - error) / runs) ** 0.5
    # and it can tell at all
    right = sum(is_better(*drawn(rng, [0.9, 0.8]), error) for _ in range(100))
    assert right > 60


def test_parts_are_drawn_from_apart() -> None:
    # one task is lost by all: its zeros say nothing about the spread of the other
    values, other = [0.0] * 50 + [9.0] * 50, [0.0] * 50 + [8.0] * 50
    assert is_better(values, other, 0.001, (50, 50))
