"""What is measured on the trees: three measures, their draws, quality on folds."""

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
    Rows = NDArray[np.intp]
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
MANY_ROWS = 40
# a draw's forest: what few trees add to the spread of the draws is small beside what
# other rows do
DRAWN = Cost(trees=10, repeats=2, shap_rows=40, depth=8)
HELD_REPEATS = 5


@dataclass(frozen=True)
class Effort:
    """What estimates, intervals and comparisons cost.

    `draws` of the rows are for intervals, at least two; `beside` adds what never enters
    the consensus, out-of-fold permutation and XGBoost. `whole` is what the forest of
    all rows costs: the consensus is the same for all efforts that share it.
    """

    draws: int
    beside: bool
    whole: Cost = FULL

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise SpecError(f"an interval needs at least two draws, got {self.draws}")

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose out-of-fold quality is measured."""
        return ("forest", "linear", *(("xgboost",) if self.beside else ()))


# the deviation of a normal interval is known to a tenth from sixty draws
DRAWS = 60
QUICK = Effort(DRAWS, beside=False)
THOROUGH = Effort(DRAWS, beside=True)


@dataclass(frozen=True)
class Fit:
    """How well a model predicts rows it has not seen, out of five folds, 1 at best."""

    r2: float | None = None
    spearman: float | None = None


@dataclass(frozen=True, eq=False)
class Data:
    """Distinct rows: `table` [n, k], standardized scores `target` [n], sets of columns.

    Every column varies. Rows of one number in `clusters` [n] are drawn, and held out,
    together; None is every row by itself. `redraw` draws scores [n] that the rows may
    have as well, where not all of them are known; None leaves them as they are.
    """

    table: Array
    target: Array
    sets: Sets
    clusters: Rows | None = None
    redraw: Callable[[np.random.Generator], Array] | None = None

    @property
    def clustered(self) -> Rows:
        """Numbers of the clusters [n], from 0 on."""
        if self.clusters is None:
            return np.arange(len(self.target))
        numbers: Rows = np.unique(self.clusters, return_inverse=True)[1]
        return numbers


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of s sets of columns, in no unit: only their ratios mean something.

    `three` [3, s] are impurity, permutation and SHAP; `draws` [draws, 3, s] the same of
    draws of the rows; `held` [s] is out-of-fold permutation and `boosted` [s] XGBoost's
    SHAP. What the effort leaves out is None.
    """

    three: Array
    draws: Array
    held: Array | None
    boosted: Array | None
    models: Mapping[str, Fit]


def measure(data: Data, effort: Effort, seed: int, step: Step) -> Measures:
    """Measure every set; `step` is told of every draw done."""
    # each has its own numbers: the consensus does not depend on the effort
    permuting, parting, drawing = np.random.default_rng(seed).spawn(3)
    three = _three(data, effort.whole, seed, permuting)
    models, held = _out_of_fold(data, effort, seed, parting)
    draws = trees.in_threads(
        lambda rng: _three(_half(data, rng), DRAWN, _state(rng), rng),
        drawing.spawn(effort.draws),
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
        held,
        boosted,
        models,
    )


def _state(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _half(data: Data, rng: np.random.Generator) -> Data:
    """Half of the clusters, with scores that their rows may have.

    What half-samples differ by is what whole samples of other rows would: the jackknife
    that deletes d of n has the factor (n - d) / d (Shao and Wu, "A general theory for
    jackknife variance estimation", Annals of Statistics 17, 1989), here 1. A bootstrap
    repeats rows, which a forest takes for surer than they are.
    """
    clusters = data.clustered
    number = int(clusters.max()) + 1
    kept = rng.permutation(number)[: max(1, number // 2)]
    rows = np.isin(clusters, kept)
    target = data.target if data.redraw is None else data.redraw(rng)
    return Data(data.table[rows], target[rows], data.sets)


def _three(data: Data, cost: Cost, seed: int, rng: np.random.Generator) -> Array:
    """Impurity, permutation and SHAP of one forest, [3, s]."""
    rows = len(data.target)
    model = trees.forest(data.table, data.target, cost.trees, seed, cost.depth)
    impurity = trees.of_sets(trees.impurity(model)[None], data.sets)[0]
    repeats = min(cost.repeats, max(HELD_REPEATS, cost.repeats * MANY_ROWS // rows))
    orders = trees.orders(rows, repeats, rng)
    increase = trees.error_increase(model, data.table, data.target, data.sets, orders)
    shap = _mean_shap(model, data, cost.shap_rows, rng)
    return np.stack([impurity, increase.clip(0), shap])


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
    rows, clusters = len(target), data.clustered
    if rows < 2 * FOLDS or clusters.max() + 1 < FOLDS:
        return dict.fromkeys(effort.models, Fit()), None
    votes = {kind: np.empty(rows) for kind in effort.models}
    increase = np.zeros(len(data.sets))
    design = np.column_stack([np.ones(rows), table])
    # on their own, so that the fits do not depend on the effort
    permuting, parting = rng.spawn(2)
    for seen, held in folds(clusters, FOLDS, parting):
        model = trees.forest(table[seen], target[seen], effort.whole.trees, seed)
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
