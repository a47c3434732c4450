from __future__ import annotations

import numpy as np
import pytest

from evals.interval import bootstrap


def test_values_that_are_all_equal_leave_no_doubt() -> None:
    found = bootstrap([70.0] * 5)
    assert (found.mean, found.ci95) == (70.0, [70.0, 70.0])


def test_a_single_value_is_its_own_interval() -> None:
    assert bootstrap([3.0]).ci95 == [3.0, 3.0]


def test_two_values_are_both_within_reach_of_the_interval() -> None:
    # a draw of two is 0, 0.5 or 1 on average, a quarter, a half, a quarter of the time
    found = bootstrap([0.0, 1.0])
    assert (found.mean, found.ci95) == (0.5, [0.0, 1.0])


def test_half_right_of_a_hundred_is_known_to_ten_points() -> None:
    found = bootstrap([0.0, 100.0] * 50)
    # standard error 100 x sqrt(0.25 / 100) = 5 points, and 1.96 of them
    assert found.mean == 50
    assert found.low == pytest.approx(50 - 9.8, abs=1.5)
    assert found.high == pytest.approx(50 + 9.8, abs=1.5)


def test_four_times_the_samples_halve_the_interval() -> None:
    few, many = bootstrap([0.0, 1.0] * 50), bootstrap([0.0, 1.0] * 200)
    ratio = (few.high - few.low) / (many.high - many.low)
    assert ratio == pytest.approx(2, rel=0.1)


def test_a_constant_added_moves_the_interval_and_nothing_else() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    plain, moved = bootstrap(values, 3), bootstrap([v + 16 for v in values], 3)
    assert moved.mean == plain.mean + 16
    assert moved.ci95 == pytest.approx([plain.low + 16, plain.high + 16])


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    values = np.random.default_rng(0).normal(size=30).tolist()
    assert bootstrap(values, 1) == bootstrap(values, 1)
    assert bootstrap(values, 1) != bootstrap(values, 2)


def test_differences_on_the_same_samples_are_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=50)
    better = base + 0.5 + 0.01 * rng.normal(size=50)
    # the two intervals overlap, but every sample gained about a half
    assert bootstrap(base.tolist()).high > bootstrap(better.tolist()).low
    paired = bootstrap((better - base).tolist())
    assert 0.49 < paired.low < paired.high < 0.51


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(30, 25))
    found = [bootstrap(table.tolist(), seed) for seed, table in enumerate(tables)]
    covered = sum(each.low <= 0 <= each.high for each in found)
    # 28.5 of 30 are expected, give or take 2 x sqrt(30 x 0.95 x 0.05) = 2.4; at 25
    # samples a percentile interval covers a little less than it says
    assert covered >= 25
