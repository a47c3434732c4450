"""Scores that looks suggest, against lines and errors that are known."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.imputation import impute

NONE = np.nan


def looked(
    noise: float, measured: int = 20, others: int = 30
) -> tuple[np.ndarray, ...]:
    """Looks and true scores 90 - 2 x look; the scores of some are measured."""
    rng = np.random.default_rng(1)
    looks = rng.normal(size=measured + others)
    true = 90 - 2 * looks + noise * rng.normal(size=len(looks))
    scores = np.where(np.arange(len(looks)) < measured, true, NONE)
    return looks[:, None], scores, true


def test_a_line_without_errors_is_known_and_counts_in_full() -> None:
    looks, scores, true = looked(0.0)
    kept, found = impute(scores, looks)
    assert kept.tolist() == list(range(50))
    assert found.measured.sum() == 20
    np.testing.assert_allclose(found.expected, true)
    np.testing.assert_allclose(found.draw(np.random.default_rng(0)), true)
    assert found.worth == pytest.approx(50)


def test_what_was_measured_stays_and_the_rest_is_drawn_with_its_error() -> None:
    looks, scores, true = looked(1.0, measured=40)
    _, found = impute(scores, looks)
    rng = np.random.default_rng(0)
    draws = np.array([found.draw(rng) for _ in range(4000)])
    np.testing.assert_array_equal(draws[:, :40], np.tile(true[:40], (4000, 1)))
    slope, offset = np.polyfit(looks[:40, 0], true[:40], 1)
    np.testing.assert_allclose(found.expected[40:], offset + slope * looks[40:, 0])
    # the error of a new row about a line of 40: a t distribution of 38 degrees
    off = looks[40:, 0] - looks[:40, 0].mean()
    left = true[:40] - offset - slope * looks[:40, 0]
    leverage = 1 / 40 + off**2 / (40 * looks[:40, 0].var())
    expected = (left @ left / 38 * (1 + leverage) * 38 / 36) ** 0.5
    np.testing.assert_allclose(draws[:, 40:].std(axis=0), expected, rtol=0.06)
    means = draws[:, 40:].mean(axis=0)
    np.testing.assert_allclose(means, found.expected[40:], atol=0.1)


def test_looks_count_by_what_they_tell() -> None:
    # score and error as wide as each other: half is known
    looks, scores, _ = looked(2.0, measured=400, others=2000)
    _, found = impute(scores, looks)
    assert found.worth - 400 == pytest.approx(1000, rel=0.15)
    rng = np.random.default_rng(3)
    few = np.where(np.arange(60) < 20, rng.normal(size=60), NONE)
    told = [impute(few, rng.normal(size=(60, 1)))[1].worth - 20 for _ in range(200)]
    assert np.mean(told) < 0.1 * 40


def test_each_has_the_line_of_the_looks_it_has() -> None:
    rng = np.random.default_rng(2)
    looks = rng.normal(size=(40, 2))
    true = 5 + looks @ [1.0, 3.0]
    scores = np.where(np.arange(40) < 20, true, NONE)
    # the last ten lack the second look, which tells most
    looks[30:, 1] = NONE
    kept, found = impute(scores, looks)
    assert len(kept) == 40
    np.testing.assert_allclose(found.expected[:30], true[:30])
    slope, offset = np.polyfit(looks[:20, 0], true[:20], 1)
    np.testing.assert_allclose(found.expected[30:], offset + slope * looks[30:, 0])
    assert sorted(len(line.rows) for line in found.lines) == [10, 10]


def test_few_pairs_suggest_nothing() -> None:
    looks, scores, _ = looked(0.5, measured=8)
    kept, found = impute(scores, looks)
    assert kept.tolist() == list(range(8))
    assert found.lines == ()
    assert found.worth == 8
    looks, scores, _ = looked(0.5, measured=9)
    assert len(impute(scores, looks)[0]) == 39


def test_a_look_that_is_no_number_suggests_nothing() -> None:
    looks, scores, _ = looked(0.5)
    looks[3], looks[30], looks[31] = np.inf, np.inf, NONE
    kept, found = impute(scores, looks)
    assert kept.tolist() == [*range(30), *range(32, 50)]
    assert np.isfinite(found.expected).all()
    # the third was measured all the same, and is no pair
    assert found.lines[0].freedom == 19 - 2


def test_looks_that_say_the_same_share_their_slope() -> None:
    looks, scores, true = looked(0.0)
    _, found = impute(scores, np.hstack([looks, 2 * looks]))
    np.testing.assert_allclose(found.expected, true)
    assert found.lines[0].freedom == 18


def test_without_looks_there_is_what_was_measured() -> None:
    kept, found = impute([1.0, 2.0], np.empty((2, 0)))
    assert kept.tolist() == [0, 1]
    assert found.expected.tolist() == [1, 2]
    assert found.worth == 2
