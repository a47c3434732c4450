"""What is measured on the trees: three measures, their bootstraps, quality on folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import SpecError
from surrogate import trees
from surrogate.rows import folds, r2, spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from surrogate.trees import Sets

    Array = NDArray[np.float64]
    Step = Callable[[], object]

FOLDS = 5


@dataclass(frozen=True)
class Cost:
    """What one forest and its three measures cost."""

    trees: int
    repeats: int
    shap_rows: int
    depth: int | None = None


# of many rows it is the rows that leave the shares unsure, not the draws: fewer
# repeats, and the SHAP values of a draw of the rows, say the same
FULL = Cost(trees=100, repeats=50, shap_rows=500)
MANY_ROWS = 1000
# a bootstrap's forest: 25 balanced trees are as steady as 100 independent ones
DRAWN = Cost(trees=25, repeats=3, shap_rows=100, depth=8)
HELD_REPEATS = 5


@dataclass(frozen=True)
class Effort:
    """What intervals and comparisons cost; the consensus is the same for all.

    `bootstraps` are for the consensus, at least one; `impurity_bootstraps`, of full
    forests, for impurity alone, 0 for none; `beside` adds what never enters the
    consensus, out-of-fold permutation and XGBoost.
    """

    bootstraps: int
    impurity_bootstraps: int
    beside: bool

    def __post_init__(self) -> None:
        if self.bootstraps < 1:
            raise SpecError(
                f"an interval needs at least one bootstrap, got {self.bootstraps}"
            )

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose out-of-fold quality is measured."""
        return ("forest", "linear", *(("xgboost",) if self.beside else ()))


QUICK = Effort(bootstraps=20, impurity_bootstraps=0, beside=False)
THOROUGH = Effort(bootstraps=20, impurity_bootstraps=100, beside=True)


@dataclass(frozen=True)
class Fit:
    """How well a model predicts rows it has not seen, out of five folds, 1 at best."""

    r2: float | None = None
    spearman: float | None = None


@dataclass(frozen=True, eq=False)
class Data:
    """Distinct rows: `table` [n, k], standardized scores `target` [n], sets of columns.

    Every column varies.
    """

    table: Array
    target: Array
    sets: Sets


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of s sets of columns, in no unit: only their ratios mean something.

    `three` [3, s] are impurity, permutation and SHAP; `draws` [bootstraps, 3, s] the
    same of bootstraps; `impurity_draws` [bootstraps, s] of full forests; `held` [s] is
    out-of-fold permutation and `boosted` [s] XGBoost's SHAP. What the effort leaves out
    is None.
    """

    three: Array
    draws: Array
    impurity_draws: Array | None
    held: Array | None
    boosted: Array | None
    models: Mapping[str, Fit]


def measure(data: Data, effort: Effort, seed: int, step: Step) -> Measures:
    """Measure every set; `step` is told of every bootstrap done."""
    # each has its own draws: the consensus does not depend on the effort
    permuting, parting, bootstraps, impurities = np.random.default_rng(seed).spawn(4)
    three = _three(data, FULL, seed, permuting)
    models, held = _out_of_fold(data, effort, seed, parting)
    draws = trees.in_threads(
        lambda rng: _three(_drawn(data, rng), DRAWN, _state(rng), rng),
        bootstraps.spawn(effort.bootstraps),
        step,
    )
    impurity_draws = trees.in_threads(
        lambda rng: _impurity(_drawn(data, rng), rng),
        impurities.spawn(effort.impurity_bootstraps),
        step,
    )
    boosted = None
    if effort.beside:
        booster = trees.boosted(data.table, data.target, seed)
        values = trees.boosted_shap(booster, data.table)[0]
        boosted = np.abs(trees.of_sets(values, data.sets)).mean(axis=0)
    return Measures(
        three,
        np.array(draws),
        np.array(impurity_draws) if impurity_draws else None,
        held,
        boosted,
        models,
    )


def _state(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _drawn(data: Data, rng: np.random.Generator) -> Data:
    rows = rng.integers(len(data.target), size=len(data.target))
    return Data(data.table[rows], data.target[rows], data.sets)


def _three(data: Data, cost: Cost, seed: int, rng: np.random.Generator) -> Array:
    """Impurity, permutation and SHAP of one forest, [3, s]."""
    rows = len(data.target)
    model = trees.forest(data.table, data.target, cost.trees, seed, cost.depth)
    impurity = trees.of_sets(model.feature_importances_[None], data.sets)[0]
    repeats = min(cost.repeats, max(HELD_REPEATS, cost.repeats * MANY_ROWS // rows))
    orders = trees.orders(rows, repeats, rng)
    increase = trees.error_increase(model, data.table, data.target, data.sets, orders)
    shap = _mean_shap(model, data, cost.shap_rows, rng)
    return np.stack([impurity, increase.clip(0), shap])


def _impurity(data: Data, rng: np.random.Generator) -> Array:
    model = trees.forest(data.table, data.target, DRAWN.trees, _state(rng))
    impurity: Array = trees.of_sets(model.feature_importances_[None], data.sets)[0]
    return impurity


def _mean_shap(
    model: object, data: Data, at_most: int, rng: np.random.Generator
) -> Array:
    """Mean |SHAP| over the rows, or over a draw among the distinct ones, [s]."""
    rows, counts = np.unique(data.table, axis=0, return_counts=True)
    kept = np.sort(rng.permutation(len(rows))[:at_most])
    values = trees.of_sets(trees.shap_values(model, rows[kept])[0], data.sets)
    mean: Array = np.average(np.abs(values), axis=0, weights=counts[kept])
    return mean


def _out_of_fold(
    data: Data, effort: Effort, seed: int, rng: np.random.Generator
) -> tuple[dict[str, Fit], Array | None]:
    """Fits of the models to rows held out, and permutation importance there."""
    table, target = data.table, data.target
    rows = len(target)
    if rows < 2 * FOLDS:
        return dict.fromkeys(effort.models, Fit()), None
    votes = {kind: np.empty(rows) for kind in effort.models}
    increase = np.zeros(len(data.sets))
    design = np.column_stack([np.ones(rows), table])
    # on their own, so that the fits do not depend on the effort
    permuting, parting = rng.spawn(2)
    for seen, held in folds(rows, FOLDS, parting):
        model = trees.forest(table[seen], target[seen], FULL.trees, seed)
        votes["forest"][held] = trees.predicted(model, table[held])
        solution = np.linalg.lstsq(design[seen], target[seen], rcond=None)[0]
        votes["linear"][held] = design[held] @ solution
        if effort.beside:
            booster = trees.boosted(table[seen], target[seen], seed)
            votes["xgboost"][held] = trees.boosted_votes(booster, table[held])
            orders = trees.orders(len(held), HELD_REPEATS, permuting)
            increase += len(held) * trees.error_increase(
                model, table[held], target[held], data.sets, orders
            )
    models = {
        kind: Fit(r2(vote, target), spearman(vote, target))
        for kind, vote in votes.items()
    }
    return models, increase.clip(0) if effort.beside else None
