from __future__ import annotations

from math import asin, inf, nan, pi
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.study.worth import Pair, worth

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pairs(
    looks: NDArray[np.float64], scores: NDArray[np.float64], drawn: int = 0
) -> list[Pair]:
    """Of one budget, the first ones drawn by chance."""
    both = zip(looks.tolist(), scores.tolist(), strict=True)
    return [Pair(look, value, 4.0, at < drawn) for at, (look, value) in enumerate(both)]


def spearman_of(pearson: float) -> float:
    """In a normal distribution."""
    return 6 / pi * asin(pearson / 2)


def drawn_pairs(
    rng: np.random.Generator, pearson: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    looks, noise = rng.normal(size=(2, count))
    return looks, pearson * looks + (1 - pearson**2) ** 0.5 * noise


def test_nothing_is_said_of_less_than_two() -> None:
    assert worth([]).spearman is None
    one = worth([Pair(1.0, 2.0, None, True)])
    assert (one.count, one.drawn, one.spearman, one.interval(0.95)) == (
        1,
        1,
        None,
        None,
    )
    flat = worth([Pair(1.0, float(at), None, False) for at in range(9)])
    assert (flat.count, flat.spearman) == (9, None)


def test_many_that_chance_drew_show_the_correlation_of_their_distribution() -> None:
    looks, scores = drawn_pairs(np.random.default_rng(0), 0.8, 4000)
    found = worth(pairs(looks, scores, 4000))
    assert found.spearman == pytest.approx(spearman_of(0.8), abs=0.02)


def test_only_the_order_of_the_scores_matters() -> None:
    looks, scores = drawn_pairs(np.random.default_rng(1), 0.7, 50)
    found = worth(pairs(looks, scores, 50))
    assert worth(pairs(looks, np.exp(3 * scores), 50)) == found
    turned = worth(pairs(-looks, scores, 50))
    assert turned.spearman == pytest.approx(-(found.spearman or nan))


@pytest.mark.parametrize("pearson", [0.0, 0.4, 0.8])
def test_what_looks_chose_is_corrected_by_what_chance_drew(pearson: float) -> None:
    rng, uncorrected, found = np.random.default_rng(2), [], []
    for _ in range(60):
        looks, scores = drawn_pairs(rng, pearson, 400)
        # the best of the later ones by their look, beside some at random
        best = 40 + np.argsort(-looks[40:])[:40]
        kept = np.concatenate([np.arange(40), best])
        chosen = pairs(looks[kept], scores[kept], 40)
        told = worth(chosen[40:]).spearman, worth(chosen).spearman
        uncorrected.append(told[0] or 0.0)
        found.append(told[1] or 0.0)
    truth = spearman_of(pearson)
    assert np.mean(found) == pytest.approx(truth, abs=0.05)
    # those chosen say less by themselves
    assert np.mean(uncorrected) <= 0.7 * truth + 0.05


@pytest.mark.parametrize("pearson", [0.0, 0.5, 0.8])
def test_nine_in_ten_intervals_and_more_hold_the_correlation(pearson: float) -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(200):
        looks, scores = drawn_pairs(rng, pearson, 200)
        best = 16 + np.argsort(-looks[16:])[:16]
        kept = np.concatenate([np.arange(16), best])
        ends = worth(pairs(looks[kept], scores[kept], 16)).interval(0.95)
        assert ends is not None
        held += ends[0] <= spearman_of(pearson) <= ends[1]
    assert held >= 180


def test_budgets_are_not_compared_with_each_other() -> None:
    rng = np.random.default_rng(4)
    looks, scores = rng.normal(size=(2, 40))
    # ten budgets, each better than the one before on both sides
    shifted = [
        Pair(look + 9 * (at % 10), value + 9 * (at % 10), at % 10, True)
        for at, (look, value) in enumerate(zip(looks, scores, strict=True))
    ]
    plain = [Pair(p.look - 9 * p.place, p.score, p.place, True) for p in shifted]  # type: ignore[operator]
    found = worth(shifted)
    assert found.spearman == pytest.approx(worth(plain).spearman)
    assert abs(found.spearman or 1.0) < 0.5


def test_a_look_without_a_score_only_says_how_looks_are_spread() -> None:
    looks, scores = drawn_pairs(np.random.default_rng(5), 0.6, 30)
    close = pairs(looks, scores)
    wide = [Pair(4.0 * look, None, 4.0, True) for look in looks]
    more, less = worth([*close, *wide]), worth(close)
    assert (more.count, more.drawn) == (30, 0)
    assert (more.spearman or 0) > (less.spearman or 1)


def test_a_look_that_is_no_number_is_the_worst() -> None:
    looks, scores = np.arange(12.0), np.arange(12.0)
    for lost in (nan, inf, -inf):
        bad = looks.copy()
        bad[0] = lost
        found = worth(pairs(bad, scores, 6))
        assert found.spearman is not None
        assert found.spearman > 0.9
