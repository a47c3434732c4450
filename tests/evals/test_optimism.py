from __future__ import annotations

import numpy as np
import pytest

from evals.optimism import (
    SIDE,
    Elsewhere,
    look_optimism,
    luck,
    own_noise,
    predict,
    spread,
)

UNKNOWN = float("nan")
# nothing is expected of an optimism
FLAT = (0.0, float("inf"))


def drawn(rng: np.random.Generator, rows: int, samples: int) -> np.ndarray:
    """Scores of samples that rows partly fail on together; all rows are as good."""
    common = rng.normal(0, 10, samples)
    return 80 + common + rng.normal(0, 10, (rows, samples))


def test_what_all_share_is_taken_off_all() -> None:
    values = drawn(np.random.default_rng(0), 4, 50)
    # the other set is 2 harder for all, and 3 more for what was chosen here
    own = values.mean(axis=1)
    known = np.array([own[0] - 2, own[1] - 2, own[2] - 5, UNKNOWN])
    # chosen each for a purpose of its own: none is known to be luckier than others
    groups = (None, None, "a", "b")
    found = Elsewhere(values, known, 100, groups).scores
    assert found[:3] == pytest.approx(known[:3])
    # as many standard deviations as the other one that was chosen has
    first, second = own_noise(spread(values), np.array(groups) != np.array(None))[2:]
    assert 0.5 < second / first < 2
    assert found[3] == pytest.approx(own[3] - 2 - 3 * second / first)


def test_what_is_expected_counts_where_nothing_that_was_chosen_is_known() -> None:
    values = drawn(np.random.default_rng(0), 3, 50)
    own, groups = values.mean(axis=1), (None, "a", "b")
    noises = own_noise(spread(values) / 50, np.array([False, True, True]))
    nothing = np.full(3, UNKNOWN)
    found = Elsewhere(values, nothing, 100, groups, (1.5, 0.1)).scores
    assert found == pytest.approx(own - 1.5 * noises)
    baseline = np.array([own[0] - 2, UNKNOWN, UNKNOWN])
    found = Elsewhere(values, baseline, 100, groups, (1.5, 0.1)).scores
    assert found == pytest.approx(own - 2 - 1.5 * noises)


def test_noise_of_ones_own_is_what_others_do_not_tell() -> None:
    # the second is the first and as much again, the third is the first
    noise = np.array([[4.0, 4, 4], [4, 8, 4], [4, 4, 4]])
    chosen = np.array([False, True, True])
    assert own_noise(noise, chosen) == pytest.approx([0, 2, 0])
    assert own_noise(noise, ~(chosen & ~chosen)) == pytest.approx([2, 8**0.5, 2])


def test_what_fails_on_the_same_samples_is_taken_for_alike() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 10, (2, 1_000))
    slight = rng.normal(0, 0.1, 1_000)
    # the third is the first but for a trifle; none was chosen
    values = np.array([first, second, first + slight])
    own = values.mean(axis=1)
    known = np.array([own[0] - 2, own[1] + 2, UNKNOWN])
    found = Elsewhere(values, known, 1_000, (None,) * 3).scores
    assert found[2] == pytest.approx(own[2] - 2, abs=0.05)


@pytest.mark.parametrize("better", [0.0, 1.0])
@pytest.mark.parametrize("evaluated", [1, 5])
def test_what_is_best_by_luck_is_shown_as_good_as_it_is(
    evaluated: int, better: float
) -> None:
    rng = np.random.default_rng(2)
    raw, mended, inside = [], [], []
    groups = [*[None] * 4, *["large"] * 10, *["small"] * 10]
    for _ in range(150):
        # of twenty proposals some are better than others, or all are as good
        truths = 80 + np.repeat([0, better], (4, 20)) * rng.normal(0, 1, 24)
        values, other = (drawn(rng, 24, n) + truths[:, None] - 80 for n in (300, 600))
        own, there = values.mean(axis=1), other.mean(axis=1)
        # the best of the small ones is shown, and some of the large ones are known
        best = 14 + int(own[14:].argmax())
        known = np.full(24, UNKNOWN)
        places = [*range(4), *(4 + np.argsort(-own[4:14])[:evaluated])]
        known[places] = there[places]
        found = Elsewhere(values, known, 600, groups)
        raw.append(own[best] - truths[best])
        mended.append(found.scores[best] - truths[best])
        side = SIDE * found.covariance[best, best] ** 0.5
        inside.append(abs(mended[-1]) <= side)
    # three standard errors
    slack = 3 * np.std(mended) / 150**0.5
    assert np.mean(raw) > slack
    assert abs(np.mean(mended)) < slack
    assert np.mean(inside) >= 0.93


def test_luck_is_the_share_of_what_lies_above_that_noise_explains() -> None:
    # means 2 and 10; the scores lie 1 to either side, 4 in all: noise of variance 1/2
    # and freedom 2 explains 1 of it
    scores = np.array([50.0, 1, 3, 9, 11])
    groups = (None, "a", "a", "b", "b")
    found = luck(scores, np.eye(5) / 2, groups)
    assert found == pytest.approx(np.array([0, -1, 1, -1, 1]) / 4)
    # noise that all share is nobody's luck
    assert luck(scores, np.ones((5, 5)), groups) == pytest.approx(np.zeros(5))
    # no more than all of it
    assert luck(scores, 9 * np.eye(5), groups) == pytest.approx([0, -1, 1, -1, 1])
    assert luck(scores, np.eye(5), (None,) * 5) == pytest.approx(np.zeros(5))


def test_the_interval_of_what_is_known_is_that_of_its_samples() -> None:
    values = drawn(np.random.default_rng(3), 3, 100)
    known = np.array([80.0, 79.0, UNKNOWN])
    found = Elsewhere(values, known, 400, (None,) * 3)
    variance = np.diag(spread(values)) / 400
    assert np.diag(found.covariance)[:2] == pytest.approx(variance[:2])
    assert found.covariance[2, 2] > variance[2]


def test_rows_that_are_equal_are_predicted_equal() -> None:
    values = np.ones((3, 10))
    known = np.array([1.0, UNKNOWN, UNKNOWN])
    found = Elsewhere(values, known, 10, (None, "a", "a"), (0.0, 1.0))
    assert found.scores == pytest.approx([1, 1, 1])
    assert np.isfinite(found.covariance).all()


def test_parts_that_differ_spread_nothing() -> None:
    # two tasks, each the same on all of its samples
    values = np.array([[1.0, 1, 9, 9], [2.0, 2, 3, 3]])
    assert spread(values, (2, 2)) == pytest.approx(np.zeros((2, 2)), abs=1e-6)
    assert spread(values).diagonal() == pytest.approx([16, 0.25])


def test_looks_flatter_by_what_their_samples_say_beyond_the_rest() -> None:
    values = drawn(np.random.default_rng(4), 4, 40)
    chosen = np.array([False, False, True, True])
    looked = np.arange(40) < 10
    # equal on both parts, but for 4 more on the quarter that was looked at
    for part in (looked, ~looked):
        values[:, part] += 80 - values[:, part].mean(axis=1, keepdims=True)
    values[np.ix_(chosen, looked)] += 4
    noises = own_noise(spread(values) / 40, chosen)[2:]
    optimism, variance = look_optimism(values, chosen, looked)
    # 1 on all samples, in standard deviations of either
    assert min(1 / noises) - 1e-6 <= optimism <= max(1 / noises) + 1e-6
    assert variance > 0


@pytest.mark.parametrize(
    ("chosen", "looked"), [([0, 0], [1, 0]), ([1, 1], [1, 0]), ([0, 1], [0, 0])]
)
def test_where_there_is_nothing_to_compare_looks_say_nothing(
    chosen: list[int], looked: list[int]
) -> None:
    values = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert look_optimism(values, np.array(chosen) > 0, np.array(looked) > 0) == (0, 0)


def test_gaps_that_the_design_explains_leave_nothing_to_the_noise() -> None:
    noise = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 1.0]])
    shares = np.array([0.0, 1.0, 2.0])
    found, errors = predict(noise, np.array([1.0, 4.0, np.nan]), shares, FLAT)
    # a shift of 1 and an optimism of 3, once and twice; the rest of a known row is none
    assert found == pytest.approx([1, 4, 7])
    assert errors[:2, :2] == pytest.approx(np.zeros((2, 2)), abs=1e-9)
