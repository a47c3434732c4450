from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from allocator.core.errors import SpecError
from surrogate.rows import (
    checked,
    distinct,
    first_of_equal,
    folds,
    mean_of_equal,
    r2,
    spearman,
    standardized,
)


def test_equal_rows_are_averaged_and_sorted() -> None:
    table = np.array([[4.0, 2], [2, 8], [4, 2], [2, 8], [3, 3]])
    rows, means, warning = distinct(table, np.array([1.0, 5, 2, 5, 7]))
    assert rows.tolist() == [[2, 8], [3, 3], [4, 2]]
    assert means.tolist() == [5, 7, 1.5]
    assert warning == (
        "2 rows repeat 1 settings with scores that differ by up to 1; "
        "their scores were averaged."
    )


def test_many_equal_rows_of_many_settings_have_their_own_means() -> None:
    rng = np.random.default_rng(0)
    table, values = rng.integers(2, 5, (300, 2)).astype(float), rng.normal(size=300)
    rows, means, _ = distinct(table, values)
    for row, mean in zip(rows, means, strict=True):
        assert mean == pytest.approx(values[(table == row).all(axis=1)].mean())


def test_standardized_scores_come_with_their_unit() -> None:
    found = standardized(np.array([1.0, 3.0]))
    assert found is not None
    assert (found[0].tolist(), *found[1:]) == ([-1, 1], 2, 1)
    assert standardized(np.array([0.1, 0.1])) is None


def test_folds_hold_every_row_out_once() -> None:
    parts = folds(np.arange(13), 5, np.random.default_rng(0))
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(13))
    assert all(sorted([*seen, *held]) == list(range(13)) for seen, held in parts)


def test_folds_hold_out_a_cluster_as_a_whole() -> None:
    clusters = np.array([0, 1, 1, 2, 0, 3, 2])
    parts = folds(clusters, 2, np.random.default_rng(0))
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(7))
    for seen, held in parts:
        assert not set(clusters[seen]) & set(clusters[held])


def test_equal_rows_share_their_mean_and_the_first_of_their_clusters() -> None:
    table = np.array([[2.0, 1], [1, 1], [2, 1]])
    # in sorted order, as `distinct` has them
    assert mean_of_equal(table, np.array([1.0, 5, 2])).tolist() == [5, 1.5]
    assert first_of_equal(table, [7, 8, 9]).tolist() == [8, 7]
    assert distinct(table, np.array([1.0, 5, 2]))[1].tolist() == [5, 1.5]


def test_rank_correlation_gives_ties_their_mean_rank() -> None:
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 x 5)
    first, second = np.array([1.0, 2, 2, 9]), np.array([1.0, 2, 3, 4])
    assert spearman(first, second) == pytest.approx(4.5 / 22.5**0.5)
    assert spearman(first, np.ones(4)) == 0
    drawn = np.random.default_rng(0).integers(0, 9, (2, 50)).astype(float)
    assert spearman(*drawn) == pytest.approx(stats.spearmanr(*drawn).statistic)


def test_explained_share_of_the_variance() -> None:
    target = np.array([0.0, 2.0])
    assert r2(target, target) == 1
    assert r2(np.ones(2), target) == 0
    # squared error 0.5 of a variance of 1
    assert r2(np.array([0.0, 1.0]), target) == 0.5


@pytest.mark.parametrize(
    ("bits", "scores", "message"),
    [
        ([[2, 3, 4, 5]], [1.0, 2.0], "2 scores and 4 names"),
        ([[2, 3, 4]], [1.0], "1 scores and 4 names"),
        (np.empty((0, 4)), [], "at least one row"),
        ([[2, 3, 4, 5]], [float("inf")], "finite"),
    ],
)
def test_impossible_tables_are_refused(
    bits: list[list[float]], scores: list[float], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        checked(bits, scores, "abcd")
