from __future__ import annotations

import numpy as np
import pytest
import shap
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from surrogate import trees

WIDTHS = [2, 3, 4, 5, 6, 8]


def planted(rows: int, columns: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    bits = rng.choice(WIDTHS, (rows, columns)).astype(float)
    return bits, 3 * bits[:, 0] + bits[:, 1] * bits[:, 2] + rng.normal(size=rows)


def test_the_fast_prediction_is_the_forests_own() -> None:
    bits, scores = planted(50)
    forest = trees.forest(bits, scores, 10, 0)
    np.testing.assert_allclose(
        trees.predicted(forest, bits), forest.predict(bits), rtol=1e-12
    )


def test_blocks_and_threads_do_not_change_a_prediction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bits, scores = planted(50)
    forest = trees.forest(bits, scores, 5, 0)
    whole = trees.predicted(forest, bits)
    monkeypatch.setattr(trees, "BLOCK", 7)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    np.testing.assert_array_equal(trees.predicted(forest, bits), whole)


def test_the_forest_predicts_and_weighs_as_one_of_independent_draws_does() -> None:
    bits, scores = planted(200)
    ours = trees.forest(bits, scores, 200, 0)
    other = RandomForestRegressor(200, random_state=0).fit(bits, scores)
    np.testing.assert_allclose(
        ours.feature_importances_, other.feature_importances_, atol=0.02
    )
    apart = ours.predict(bits) - other.predict(bits)
    assert np.sqrt(np.mean(apart**2)) < 0.05 * scores.std()


def test_impurity_is_what_the_library_calls_importance() -> None:
    rng = np.random.default_rng(0)
    table = rng.choice([2.0, 4, 8], (40, 3))
    forest = trees.forest(table, table @ [3.0, 1, 0], 7, 0)
    np.testing.assert_allclose(trees.impurity(forest), forest.feature_importances_)
    # nothing to split by
    flat = trees.forest(table, np.ones(40), 3, 0)
    assert trees.impurity(flat).tolist() == [0, 0, 0]


def test_every_row_is_drawn_equally_often_over_the_forest() -> None:
    bits, scores = planted(30)
    forest = trees.forest(bits, scores, 8, 0)
    # a tree's root has the mean of its draw: over all trees that of the rows
    roots = [tree.tree_.value[0, 0, 0] for tree in forest.estimators_]
    assert np.mean(roots) == pytest.approx(scores.mean(), rel=1e-12)
    assert np.ptp(roots) > 0


@pytest.mark.parametrize(("rows", "repeats"), [(5, 12), (40, 7)])
def test_orders_are_permutations_that_spread_the_rows(rows: int, repeats: int) -> None:
    found = trees.orders(rows, repeats, np.random.default_rng(0))
    assert [sorted(order) for order in found] == [list(range(rows))] * repeats
    pairs = [pair for order in found for pair in enumerate(order.tolist())]
    # no pair twice before every pair was there once
    assert len(set(pairs)) == rows * min(rows, repeats)


def test_permutation_is_what_scikit_learn_measures() -> None:
    bits, scores = planted(150)
    forest = trees.forest(bits, scores, 20, 0)
    orders = trees.orders(150, 150, np.random.default_rng(0))
    ours = trees.error_increase(forest, bits, scores, [(0,), (1,), (2,), (3,)], orders)
    theirs = permutation_importance(
        forest,
        bits,
        scores,
        scoring="neg_mean_squared_error",
        n_repeats=100,
        random_state=0,
    )
    # the mean of 100 draws is known to a tenth of their deviation
    apart = np.abs(ours - theirs.importances_mean)
    assert (apart < 4 * theirs.importances_std / 10).all()


def test_a_set_is_permuted_together() -> None:
    bits, scores = planted(20)
    forest = trees.forest(bits, scores, 5, 0)
    order = np.random.default_rng(1).permutation(20)
    moved = bits.copy()
    moved[:, [1, 2]] = bits[order][:, [1, 2]]
    expected = np.mean((forest.predict(moved) - scores) ** 2)
    expected -= np.mean((forest.predict(bits) - scores) ** 2)
    found = trees.error_increase(forest, bits, scores, [(0,), (1, 2)], [order])
    assert found[1] == pytest.approx(expected)


def test_values_of_a_set_are_signed_sums_over_its_columns() -> None:
    values = np.array([[1.0, -2, 4], [0, 5, -5]])
    assert trees.of_sets(values, [(0, 1), (2,), (1, 2)]).tolist() == [
        [-1, 4, 2],
        [5, -5, 0],
    ]


def test_shap_values_of_a_forest_add_up() -> None:
    bits, scores = planted(60)
    forest = trees.forest(bits, scores, 20, 0)
    values, mean = trees.shap_values(forest, bits)
    np.testing.assert_allclose(mean + values.sum(axis=1), forest.predict(bits), 1e-9)
    # one tree at a time, by the same library
    single = [shap.TreeExplainer(t).shap_values(bits) for t in forest.estimators_]
    np.testing.assert_allclose(values, np.mean(single, axis=0), atol=1e-9)


@pytest.mark.parametrize("unit", [1.0, 20.0])
def test_shap_values_of_boosted_trees_add_up(unit: float) -> None:
    bits, scores = planted(60)
    target = (scores - scores.mean()) / scores.std()
    booster = trees.boosted(bits, target, 0)
    values, mean = trees.boosted_shap(booster, bits)
    votes = trees.boosted_votes(booster, bits)
    np.testing.assert_allclose(
        unit * values.sum(axis=1), unit * (votes - mean), atol=1e-4
    )
    assert np.corrcoef(votes, target)[0, 1] > 0.95


def test_threads_keep_the_order_and_tell_of_every_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    told: list[int] = []
    found = trees.in_threads(lambda n: n * n, range(20), lambda: told.append(1))
    assert found == [n * n for n in range(20)]
    assert len(told) == 20
