from __future__ import annotations

import numpy as np
import pytest

from evals.interval import bootstrap
from evals.racing import completed, is_behind, worth

RNG = np.random.default_rng(0)


def test_a_part_counts_for_more_the_more_it_is_of_the_whole() -> None:
    values = np.array([0.0, 1.0] * 50)
    alone = np.arange(100)
    # variance of a mean without replacement: (1 / n - 1 / N) in place of 1 / n
    for total in (200, 1_000):
        wanted = 1 / (1 / 100 - 1 / total)
        assert worth(values, alone, total) == pytest.approx(wanted)


def test_questions_of_a_picture_that_agree_count_as_fewer() -> None:
    alike = np.repeat([0.0, 1.0] * 25, 2)
    apart = np.array([0.0, 1.0] * 50)
    pairs = np.repeat(np.arange(50), 2)
    alone = worth(alike, np.arange(100), 10_000)
    # two that are always the same are one
    assert worth(alike, pairs, 10_000) == pytest.approx(alone / 2)
    # opposite ones tell more, which nobody counts on
    assert worth(apart, pairs, 10_000) == pytest.approx(alone)


def test_tasks_differ_without_telling_anything() -> None:
    values = np.concatenate([np.zeros(50), np.ones(50)])
    pairs = np.repeat(np.arange(50), 2)
    both = worth(values, pairs, 200, (50, 50))
    # nothing varies within them
    assert both == pytest.approx(200)


def test_what_is_surely_lower_is_behind() -> None:
    leader = np.array([100.0] * 60 + [0.0] * 40)
    low = np.array([100.0] * 40 + [0.0] * 60)
    near = np.array([100.0] * 59 + [0.0] * 41)
    pictures = np.arange(100)
    assert is_behind(low, leader, pictures, 200, 0.001)
    assert not is_behind(near, leader, pictures, 200, 0.001)
    assert not is_behind(leader, leader, pictures, 200, 0.001)
    # the other way round nothing is
    assert not is_behind(leader, low, pictures, 200, 0.001)


def test_a_test_errs_as_seldom_as_it_says() -> None:
    errors, total, runs = 0, 2_000, 600
    for _ in range(runs):
        # two that come out equal on the whole set, and differ on every tenth sample
        gaps = RNG.permutation(np.repeat([100.0, -100.0, 0.0], (100, 100, 1_800)))
        part = gaps[:500]
        leader = np.where(part > 0, 100.0, 0.0)
        errors += is_behind(leader - part, leader, np.arange(500), total, 0.05)
    # 5 % of 600 are 30, with a standard deviation of 5
    assert errors <= 45


def test_a_completed_row_has_the_others_mean_and_what_they_differ_by() -> None:
    whole = np.array([1.0, 2.0, 3.0, 4.0])
    # at the second and the last place 3 and 1 less: 2 on average
    row = completed(np.array([-1.0, 3.0]), np.array([1, 3]), whole)
    assert row.mean() == pytest.approx(2.5 - 2)
    # and what is off from that counts twice, as half of all are known
    assert row.tolist() == [1 - 2, 2 - 2 - 2, 3 - 2, 4 - 2 + 2]
    # each task by itself: 4 of the first are a mean difference of -1, then of +1
    whole = np.zeros(6)
    row = completed(np.array([-1.0, 1.0]), np.array([0, 4]), whole, (4, 2))
    assert row.tolist() == [-1, -1, -1, -1, 1, 1]
    same = completed(np.array([1.0, 2.0]), np.array([0, 1]), np.array([1.0, 2.0]))
    assert same.tolist() == [1, 2]


def test_intervals_of_completed_rows_are_those_of_the_differences() -> None:
    whole = RNG.integers(0, 2, 4_000) * 100.0
    places = np.sort(RNG.permutation(4_000)[:1_000])
    values = np.where(RNG.random(1_000) < 0.1, 0.0, whole[places])
    gaps = values - whole[places]
    found = bootstrap(completed(values, places, whole) - whole)
    wanted = bootstrap(gaps)
    assert found.mean == pytest.approx(wanted.mean)
    assert found.high - found.low == pytest.approx(wanted.high - wanted.low, rel=0.1)
