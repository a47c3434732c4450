from __future__ import annotations

import numpy as np
import pytest

from allocator.core.errors import SpecError
from surrogate.contributions import contributions

WIDTHS = [2, 3, 4, 5, 6, 8]


def planted(rows: int, unit: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that need bits in the first column, less so in the second."""
    bits = np.random.default_rng(0).choice(WIDTHS, (rows, 3)).astype(float)
    return bits, unit * (1 - 4 * 4.0 ** -bits[:, 0] - 4.0 ** -bits[:, 1])


@pytest.mark.parametrize("unit", [1e-4, 1.0, 95.0])
def test_parts_add_up_to_the_prediction(unit: float) -> None:
    bits, scores = planted(80, unit)
    unseen = np.random.default_rng(1).choice(WIDTHS, (40, 3)).astype(float)
    found = contributions(bits, scores, unseen)
    np.testing.assert_allclose(
        found.mean + found.parts.sum(axis=1), found.predicted, atol=1e-6 * unit, rtol=0
    )
    assert found.parts.shape == (40, 3)


def test_parts_say_what_costs_the_score() -> None:
    bits, scores = planted(80)
    found = contributions(bits, scores, [[2, 8, 4], [8, 2, 4], [8, 8, 4]])
    low, other, high = found.parts
    assert low[0] < -0.1 < other[1] < 0
    assert (high[:2] > 0).all()
    assert np.abs(found.parts[:, 2]).max() < 0.02
    # 1 - 4/16 at worst, near 1 at best
    np.testing.assert_allclose(found.predicted, [0.75, 0.94, 1.0], atol=0.03)


def test_equal_scores_are_predicted_with_nothing_to_explain() -> None:
    found = contributions([[2, 4], [4, 2]], [0.5, 0.5], [[2, 2]])
    assert found.mean == 0.5
    assert found.predicted.tolist() == [0.5]
    assert found.parts.tolist() == [[0, 0]]


def test_no_rows_are_explained_as_nothing() -> None:
    found = contributions(*planted(20), np.empty((0, 3)))
    assert found.parts.shape == (0, 3)
    assert found.predicted.shape == (0,)


@pytest.mark.parametrize("rows", [[[2, 3]], [2, 3, 4], [[2, 3, float("nan")]]])
def test_rows_of_other_columns_are_refused(rows: list[list[float]]) -> None:
    with pytest.raises(SpecError, match="need 3 columns of finite numbers"):
        contributions(*planted(20), rows)


def test_equal_seeds_agree_whatever_the_order_of_the_rows() -> None:
    bits, scores = planted(40)
    order = np.random.default_rng(9).permutation(40)
    first = contributions(bits, scores, bits[:3])
    second = contributions(bits[order], scores[order], bits[:3])
    np.testing.assert_array_equal(first.parts, second.parts)
    assert (contributions(bits, scores, bits[:3], seed=1).parts != first.parts).any()
