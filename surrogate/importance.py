"""Which group or component the measured scores depend on, and how sure that is.

One random forest is fitted to all rows, equal rows averaged, and asked three times: by
its impurity decrease, by its increase in squared error on the same rows when a column
is permuted (Breiman, "Random forests", Machine Learning 45, 2001; the mean over
repeats, negative means set to 0) and by its mean |SHAP| (Lundberg et al., "From local
explanations to global understanding with explainable AI for trees", Nature Machine
Intelligence 2, 2020). Each is scaled to 100 percent; the consensus is their mean, as in
arXiv 2601.15287.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.errors import SpecError

# offered here too: components are ranked by the same function as groups
from surrogate.features import component_matrix as component_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

FOLDS = 5
MIN_ROWS = 12
MIN_SPEARMAN = 0.2
# one-sided 5 % point of a rank correlation of n unrelated pairs, times sqrt(n - 1)
CHANCE = 1.645


@dataclass(frozen=True, eq=False)
class Importance:
    """Shares of k features in what a forest learned about the scores.

    `impurity`, `permutation` and `shap` are shares [k] in percent, each 100 in all;
    `consensus` [k] is their mean and `ci95` [k, 2] its bootstrap interval. All are 0
    for a feature that never varied (`constant`), and for every feature where all scores
    are the same. `agreement` is the mean Spearman correlation between the three shares.
    The out-of-fold figures of the forest and `linear_r2` (least squares on the same
    five folds) say how well a model predicts rows it has not seen, 1 at best. All four
    are None where they cannot be had. `rows` counts the distinct rows. `reason` says in
    one sentence why the ranking is not reliable, None where it is; `warning` says which
    rows were averaged, None where none disagreed.
    """

    names: tuple[str, ...]
    consensus: Array
    ci95: Array
    impurity: Array
    permutation: Array
    shap: Array
    agreement: float | None
    out_of_fold_r2: float | None
    out_of_fold_spearman: float | None
    linear_r2: float | None
    rows: int
    constant: tuple[str, ...]
    reason: str | None
    warning: str | None = None

    @property
    def reliable(self) -> bool:
        """Whether rows and signal suffice for a ranking."""
        return self.reason is None


def consensus(  # noqa: PLR0913, the settings of one published procedure
    bits: ArrayLike,
    scores: ArrayLike,
    names: Sequence[str],
    *,
    seed: int = 0,
    bootstraps: int = 50,
    trees: int = 100,
    repeats: int = 50,
) -> Importance:
    """Rank features by three measures taken from one random forest.

    The 95 % interval comes from forests fitted to bootstrap draws of the rows. For
    speed these have 25 trees, 3 repeats and the SHAP values of up to 100 rows. Small
    forests on repeated rows rank less sharply: where the interval misses the estimate,
    it is widened up to it. Rows that a search chose lie near its budget and rank the
    features there, not over the whole grid. Deterministic, in any order of the rows.

    Args:
        bits: [n, k], features; raw bits, or `component_matrix`.
        scores: [n], in any unit and direction.
        names: k names.
        seed: of forests, permutations, draws and folds.
        bootstraps: number of draws, at least one.
        trees: in the forest.
        repeats: permutations of each column.

    Raises:
        SpecError: no rows, shapes that do not match, numbers that are not finite, or no
            bootstraps.
    """
    if bootstraps < 1:
        raise SpecError(f"an interval needs at least one bootstrap, got {bootstraps}")
    table, values, warning = _averaged(*_checked(bits, scores, names))
    effort = _Effort(trees, repeats, len(values))
    rng = np.random.default_rng(seed)
    found = _explain(table, values, tuple(names), bootstraps, effort, rng)
    return replace(found, warning=warning)


@dataclass(frozen=True)
class _Effort:
    """What one forest and its three measures cost."""

    trees: int
    repeats: int
    shap_rows: int


QUICK = _Effort(trees=25, repeats=3, shap_rows=100)


@dataclass(frozen=True)
class _Fit:
    r2: float | None = None
    spearman: float | None = None
    linear_r2: float | None = None


def _explain(
    table: Array,
    values: Array,
    names: tuple[str, ...],
    bootstraps: int,
    effort: _Effort,
    rng: np.random.Generator,
) -> Importance:
    """Importance from distinct rows; the features that never vary are left out."""
    varying = np.ptp(table, axis=0) > 0
    shares, interval, fit = np.zeros((3, len(names))), np.zeros((len(names), 2)), _Fit()
    agreement = None
    reason: str | None = f"All {len(values)} distinct rows have the same score."
    if np.ptp(values) > 1e-12 * np.abs(values).max():
        inner, target = table[:, varying], (values - values.mean()) / values.std()
        found = _shares(inner, target, effort, rng)
        shares[:, varying], agreement = found, _agreement(found)
        fit = _out_of_fold(inner, target, effort.trees, rng)
        interval[varying] = _interval(inner, target, _mean(found), bootstraps, rng)
        reason = _why_unreliable(len(inner), inner.shape[1], fit)
    impurity, permutation, shap = shares
    return Importance(
        names=names,
        consensus=_mean(shares),
        ci95=interval,
        impurity=impurity,
        permutation=permutation,
        shap=shap,
        agreement=agreement,
        out_of_fold_r2=fit.r2,
        out_of_fold_spearman=fit.spearman,
        linear_r2=fit.linear_r2,
        rows=len(values),
        constant=tuple(n for n, v in zip(names, varying, strict=True) if not v),
        reason=reason,
    )


def _checked(
    bits: ArrayLike, scores: ArrayLike, names: Sequence[str]
) -> tuple[Array, Array]:
    table = np.asarray(bits, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    if table.shape != (len(values), len(names)) or not len(values):
        raise SpecError(
            f"{len(values)} scores and {len(names)} names need a table of that shape "
            f"with at least one row, got {table.shape}"
        )
    if not (np.isfinite(table).all() and np.isfinite(values).all()):
        raise SpecError("importance needs finite bits and scores")
    return table, values


def _averaged(table: Array, values: Array) -> tuple[Array, Array, str | None]:
    """Distinct rows, their mean scores, and a warning if equal rows differ."""
    rows, where = np.unique(table, axis=0, return_inverse=True)
    # sorted, so that the sums do not depend on the order of the rows
    equal = [np.sort(values[where.reshape(-1) == row]) for row in range(len(rows))]
    means = np.array([found.mean() for found in equal])
    apart = [found for found in equal if found[0] < found[-1]]
    if not apart:
        return rows, means, None
    warning = (
        f"{sum(map(len, apart))} rows repeat {len(apart)} settings with scores that "
        f"differ by up to {max(map(np.ptp, apart)):.4g}; their scores were averaged."
    )
    return rows, means, warning


def _forest(table: Array, target: Array, trees: int, rng: np.random.Generator) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    state = int(rng.integers(2**31))
    forest = RandomForestRegressor(trees, random_state=state, n_jobs=1)
    return forest.fit(table, target)


def _shares(
    table: Array, target: Array, effort: _Effort, rng: np.random.Generator
) -> Array:
    """Impurity, permutation and SHAP shares of one forest, [3, k] in percent."""
    forest = _forest(table, target, effort.trees, rng)
    increase = _error_increase(forest, table, target, effort.repeats, rng)
    attributed = _mean_shap(forest, table, effort.shap_rows, rng)
    measures = forest.feature_importances_, increase.clip(0), attributed
    return np.array([_percent(measure) for measure in measures])


def _error_increase(
    forest: Any, table: Array, target: Array, repeats: int, rng: np.random.Generator
) -> Array:
    """Mean increase of the squared error when a column is permuted, [k]."""
    rows, columns = table.shape
    before = np.mean((_predicted(forest, table) - target) ** 2)
    after = np.zeros(columns)
    for _ in range(repeats):
        # one call per repeat: a call costs more than its rows at this size
        stacked = np.repeat(table[None], columns, axis=0)
        for column in range(columns):
            stacked[column, :, column] = rng.permutation(table[:, column])
        predicted = _predicted(forest, stacked.reshape(-1, columns))
        error = predicted.reshape(columns, rows) - target
        after += np.mean(error**2, axis=1)
    increase: Array = after / repeats - before
    return increase


def _predicted(forest: Any, table: Array) -> Array:
    """`forest.predict` without its bookkeeping per tree, half the time of a run."""
    single = table.astype(np.float32)
    votes = [tree.tree_.predict(single).reshape(-1) for tree in forest.estimators_]
    mean: Array = np.mean(votes, axis=0)
    return mean


def _mean_shap(
    forest: Any, table: Array, at_most: int, rng: np.random.Generator
) -> Array:
    """Mean |SHAP| over the rows, or over a draw among the distinct ones, [k]."""
    import shap

    rows, counts = np.unique(table, axis=0, return_counts=True)
    kept = rng.permutation(len(rows))[:at_most]
    # the check compares in single precision and raises on harmless differences
    values = shap.TreeExplainer(forest).shap_values(rows[kept], check_additivity=False)
    mean: Array = np.average(np.abs(values), axis=0, weights=counts[kept])
    return mean


def _percent(measure: Array) -> Array:
    total = measure.sum()
    if not total > 0:
        return np.zeros_like(measure)
    share: Array = 100 * measure / total
    return share


def _mean(shares: Array) -> Array:
    """Consensus [k] of shares [3, k]; a measure that found nothing does not count."""
    return _percent(shares.mean(axis=0))


def _interval(
    table: Array,
    target: Array,
    estimate: Array,
    bootstraps: int,
    rng: np.random.Generator,
) -> Array:
    """Percentile interval of the consensus that holds the estimate, [k, 2]."""
    draws = []
    for _ in range(bootstraps):
        rows = rng.integers(len(target), size=len(target))
        draws.append(_mean(_shares(table[rows], target[rows], QUICK, rng)))
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    return np.stack([np.minimum(low, estimate), np.maximum(high, estimate)], axis=1)


def _out_of_fold(
    table: Array, target: Array, trees: int, rng: np.random.Generator
) -> _Fit:
    rows = len(target)
    if rows < 2 * FOLDS:
        return _Fit()
    forest, linear = np.empty(rows), np.empty(rows)
    design = np.column_stack([np.ones(rows), table])
    for held in np.array_split(rng.permutation(rows), FOLDS):
        seen = np.setdiff1d(np.arange(rows), held)
        model = _forest(table[seen], target[seen], trees, rng)
        forest[held] = model.predict(table[held])
        solution = np.linalg.lstsq(design[seen], target[seen], rcond=None)[0]
        linear[held] = design[held] @ solution
    return _Fit(_r2(forest, target), spearman(forest, target), _r2(linear, target))


def _r2(predicted: Array, target: Array) -> float:
    return float(1 - np.mean((predicted - target) ** 2) / target.var())


def spearman(a: Array, b: Array) -> float:
    """Rank correlation with ties at their mean rank; 0 where one side is constant."""
    first, second = _ranks(a), _ranks(b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Array) -> Array:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: Array = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[where]


def _agreement(shares: Array) -> float | None:
    if shares.shape[1] < 2:
        return None
    pairs = itertools.combinations(shares, 2)
    return float(np.mean([spearman(a, b) for a, b in pairs]))


def _why_unreliable(rows: int, columns: int, fit: _Fit) -> str | None:
    # fewer rows than columns rank nothing, whatever the forest predicts
    enough = max(MIN_ROWS, columns)
    if rows < enough:
        return (
            f"{rows} distinct rows are too few for {columns} varying features; "
            f"it takes {enough}."
        )
    needed = max(MIN_SPEARMAN, CHANCE / (rows - 1) ** 0.5)
    if fit.spearman is not None and fit.spearman < needed:
        return (
            "The forest does not predict rows it has not seen: Spearman "
            f"{fit.spearman:.2f}, {needed:.2f} needed."
        )
    return None
