"""The tree models that explain scores, and what they say of sets of columns.

A set is a list of column numbers, such as all columns of a component. Its impurity
decrease is the sum over its columns, permuting it permutes its columns together, and
its SHAP value in a row is the sum of its columns' values.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Sets = Sequence[tuple[int, ...]]

T = TypeVar("T")
R = TypeVar("R")
# rows that one call of the trees predicts: enough to hide what a call costs, few enough
# to stay in the cache
BLOCK = 8192
# of the gradient-boosted trees
ROUNDS = 200
BOOSTING = {
    "max_depth": 3,
    "eta": 0.1,
    "min_child_weight": 2,
    "subsample": 0.8,
    "base_score": 0.0,
    "verbosity": 0,
}


def forest(
    table: Array, target: Array, trees: int, seed: int, depth: int | None = None
) -> Any:
    """A random forest with scikit-learn's own defaults, but for a balanced bootstrap.

    Over the whole forest every row is drawn equally often (Davison, Hinkley and
    Schechtman, "Efficient bootstrap simulation", Biometrika 73, 1986). The forest
    expects the same as one of independent draws, and of a hundred trees it is about as
    steady as three or four hundred of those: shares move less with the seed.
    """
    from sklearn import config_context
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(seed)
    rows = len(target)
    single = np.asarray(table, dtype=np.float32)
    draws = rng.permutation(np.tile(np.arange(rows), trees)).reshape(trees, rows)
    states = rng.integers(2**31, size=trees)
    # set up by hand: scikit-learn has no way to say which rows a tree gets
    model = RandomForestRegressor(trees, max_depth=depth, random_state=0)
    model.n_features_in_, model.n_outputs_ = single.shape[1], 1
    # what was checked before is not checked again for every tree
    with config_context(assume_finite=True, skip_parameter_validation=True):
        model.estimators_ = [
            DecisionTreeRegressor(max_depth=depth, random_state=int(state)).fit(
                single, target, np.bincount(draw, minlength=rows), check_input=False
            )
            for draw, state in zip(draws, states, strict=True)
        ]
    return model


def impurity(model: Any) -> Array:
    """`model.feature_importances_` without its threads, which race for warnings."""
    found = [
        tree.tree_.compute_feature_importances()
        for tree in model.estimators_
        if tree.tree_.node_count > 1
    ]
    mean: Array = np.mean(found or [np.zeros(model.n_features_in_)], axis=0)
    return mean / mean.sum() if found else mean


def orders(rows: int, repeats: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Permutations [rows], each as likely as any other shift of one random circle.

    No two of them give a row the same value as long as there are more rows than
    repeats: their mean is steadier than that of independent permutations.
    """
    circle = rng.permutation(rows)
    place = np.argsort(circle)
    shifts = np.resize(rng.permutation(rows), repeats)
    return [circle[(place + shift) % rows] for shift in shifts]


def predicted(model: Any, table: Array) -> Array:
    """`model.predict` without its bookkeeping per tree, half the time of a run."""
    blocks = np.array_split(table.astype(np.float32), -(-len(table) // BLOCK))
    return np.concatenate(in_threads(lambda block: _mean_vote(model, block), blocks))


def _mean_vote(model: Any, block: NDArray[np.float32]) -> Array:
    total: Array = np.zeros(len(block))
    for tree in model.estimators_:
        total += tree.tree_.predict(block).reshape(-1)
    total /= len(model.estimators_)
    return total


def in_threads(
    work: Callable[[T], R], items: Iterable[T], step: Callable[[], object] | None = None
) -> list[R]:
    """Results in the order of the items, on as many threads as there are CPUs.

    OMP_NUM_THREADS, where set, is the number of threads. `step` is called in this
    thread for every result.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    todo, done = list(items), []
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        # a single thread, or a single item, is worked on here
        alone = threads < 2 or len(todo) < 2
        for result in map(work, todo) if alone else pool.map(work, todo):
            done.append(result)
            if step is not None:
                step()
    return done


def boosted(table: Array, target: Array, seed: int) -> Any:
    """Gradient-boosted trees of XGBoost, fitted to standardized scores."""
    import xgboost

    data = xgboost.DMatrix(table, label=target, nthread=1)
    settings = {**BOOSTING, "seed": seed, "nthread": 1}
    return xgboost.train(settings, data, ROUNDS)


def boosted_votes(booster: Any, table: Array) -> Array:
    """Predictions of XGBoost's trees, [n]."""
    import xgboost

    votes: Array = booster.predict(xgboost.DMatrix(table, nthread=1))
    return votes.astype(np.float64)


def boosted_shap(booster: Any, table: Array) -> tuple[Array, float]:
    """SHAP values [n, k] of XGBoost's trees, and the mean they start from."""
    import xgboost

    data = xgboost.DMatrix(table, nthread=1)
    values = booster.predict(data, pred_contribs=True).astype(np.float64)
    return values[:, :-1], float(values[0, -1])


def error_increase(
    model: Any,
    table: Array,
    target: Array,
    sets: Sets,
    orders: Sequence[NDArray[np.intp]],
) -> Array:
    """Mean increase of the squared error when a set's columns are permuted, [sets].

    Args:
        model: a forest.
        table: [n, k].
        target: [n].
        sets: columns that are permuted together.
        orders: permutations [n] of the rows, one a repeat; every set goes through all
            of them, so that what a set gets does not depend on the other sets.
    """
    before = np.mean((predicted(model, table) - target) ** 2)
    after = np.zeros(len(sets))
    for order in orders:
        # all copies in one call: a call costs more than its rows at this size
        stacked = np.repeat(table[None], len(sets), axis=0)
        for copy, members in zip(stacked, sets, strict=True):
            copy[:, members] = table[order][:, members]
        votes = predicted(model, stacked.reshape(-1, table.shape[1]))
        error = votes.reshape(len(sets), len(target)) - target
        after += np.mean(error**2, axis=1)
    increase: Array = after / len(orders) - before
    return increase


def shap_values(model: Any, table: Array) -> tuple[Array, float]:
    """SHAP values [n, k] of a forest, and the mean they start from."""
    import shap

    explainer = shap.TreeExplainer(model)
    # the check compares in single precision and raises on harmless differences
    values: Array = explainer.shap_values(table, check_additivity=False)
    return values, float(np.ravel(explainer.expected_value)[0])


def of_sets(values: Array, sets: Sets) -> Array:
    """Sums [n, sets] of values [n, k] over the columns of every set."""
    return np.stack([values[:, list(members)].sum(axis=1) for members in sets], axis=1)
