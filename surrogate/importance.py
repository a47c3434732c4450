"""Which groups or components the measured scores depend on, and how sure that is.

One random forest is fitted to all rows, equal rows averaged, and asked three times: by
its impurity decrease, by its increase in squared error on the same rows when a column
is permuted (Breiman, "Random forests", Machine Learning 45, 2001; the mean over
repeats, negative means set to 0) and by its mean |SHAP| (Lundberg et al., "From local
explanations to global understanding with explainable AI for trees", Nature Machine
Intelligence 2, 2020). Each is scaled to 100 percent; the consensus is their mean, as in
arXiv 2601.15287. The same forest is asked about groups, layer types, block groups and
components: these are sets of its columns.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import SpecError
from surrogate.measures import THOROUGH, Data, Effort, Fit, Measures, measure
from surrogate.rows import checked, distinct, standardized

# offered here too: looks and scores are compared by the same correlation
from surrogate.rows import spearman as spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Progress = Callable[[int, int], object]

MIN_ROWS = 12
MIN_SPEARMAN = 0.2
# rank correlation, times sqrt(n - 1), that one table of noise in a hundred reaches at
# most. Rows held out of one fold were fitted to in the others: over tables of noise it
# deviates by up to sqrt(2), not by the 1 of independent pairs
CHANCE = 3.3


@dataclass(frozen=True, eq=False)
class Importance:
    """Shares of k names in what a forest learned about the scores.

    `impurity`, `permutation` and `shap` are shares [k] in percent, each 100 in all;
    `consensus` [k] is their mean and `ci95` [k, 2] its bootstrap interval.
    `impurity_ci95` [k, 2] comes from bootstraps of the whole forest, and
    `out_of_fold_permutation` and `xgboost_shap` [k] in percent stand beside the
    consensus; all three are None where the effort left them out or nothing can be
    fitted. All are 0 for a name whose columns never varied, and for every name where
    all scores are the same. `agreement` is the mean Spearman correlation between the
    three shares, None for a single varying name.
    """

    names: tuple[str, ...]
    consensus: Array
    ci95: Array
    impurity: Array
    impurity_ci95: Array | None
    permutation: Array
    shap: Array
    out_of_fold_permutation: Array | None
    xgboost_shap: Array | None
    agreement: float | None


@dataclass(frozen=True, eq=False)
class Analysis:
    """Importance at every level, and whether it can be trusted.

    `models` has the out-of-fold fit of "forest" and "linear" (least squares), and of
    "xgboost" where the effort includes it. `rows` counts the distinct rows; `constant`
    names the columns that never varied. `reason` says in one sentence why the ranking
    is not reliable, None where it is; `warning` says which rows were averaged, None
    where none disagreed.
    """

    levels: Mapping[str, Importance]
    models: Mapping[str, Fit]
    rows: int
    constant: tuple[str, ...]
    reason: str | None
    warning: str | None

    @property
    def reliable(self) -> bool:
        """Whether rows and signal suffice for a ranking."""
        return self.reason is None


def analyse(  # noqa: PLR0913, what is explained and how thoroughly
    bits: ArrayLike,
    scores: ArrayLike,
    names: Sequence[str],
    *,
    levels: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    effort: Effort = THOROUGH,
    progress: Progress | None = None,
) -> Analysis:
    """Rank columns, and sets of columns, by three measures taken from one forest.

    The 95 % interval comes from forests of 25 trees, of depth 8 at most, fitted to
    bootstrap draws of the rows, with 3 repeats and the SHAP values of up to 100 rows;
    that of impurity alone from trees of any depth. Small forests on repeated rows rank
    less sharply: where the interval misses the estimate, it is widened up to it.

    Rows that a search chose lie near its budget and rank the names there, not over the
    whole grid. Deterministic for a seed, in any order of the rows.

    Args:
        bits: [n, k], the columns, raw bits.
        scores: [n], in any unit and direction.
        names: k names of the columns.
        levels: for each level the owner of every column, k names; its importance has
            each owner once, in order of appearance. None is {"group": names}.
        seed: of forests, permutations, draws and folds.
        effort: `THOROUGH` or `QUICK`.
        progress: told parts of the work done and parts in all.

    Raises:
        SpecError: no rows, a level or scores of another shape, numbers not finite.
    """
    table, values, warning = distinct(*checked(bits, scores, names))
    varying = np.ptp(table, axis=0) > 0
    levels = {"group": names} if levels is None else levels
    wanted = {level: _sets(level, owners, varying) for level, owners in levels.items()}
    # a set that several levels have is measured once: its numbers are the same in all
    sets = sorted({own for owned in wanted.values() for own in owned.values()} - {()})
    scaled = standardized(values)
    found, models = None, dict.fromkeys(effort.models, Fit())
    reason: str | None = f"All {len(values)} distinct rows have the same score."
    if scaled is not None:
        data = Data(table[:, varying], scaled[0], sets)
        found = measure(data, effort, seed, _counted(effort, progress))
        models = dict(found.models)
        reason = _why_unreliable(len(values), int(varying.sum()), models["forest"])
    importance = {name: _importance(own, sets, found) for name, own in wanted.items()}
    constant = tuple(n for n, v in zip(names, varying, strict=True) if not v)
    return Analysis(importance, models, len(values), constant, reason, warning)


def _sets(
    level: str, owners: Sequence[str], varying: NDArray[np.bool_]
) -> dict[str, tuple[int, ...]]:
    """For every owner its columns among those that vary, counted without the others."""
    if len(owners) != len(varying):
        raise SpecError(
            f"level {level} needs an owner for each of {len(varying)} columns, "
            f"got {len(owners)}"
        )
    sets: dict[str, tuple[int, ...]] = {owner: () for owner in owners}
    kept = (owner for owner, varies in zip(owners, varying, strict=True) if varies)
    for column, owner in enumerate(kept):
        sets[owner] += (column,)
    return sets


def _counted(effort: Effort, progress: Progress | None) -> Callable[[], object]:
    """A function to call after every bootstrap."""
    total = effort.bootstraps + effort.impurity_bootstraps
    done = itertools.count(1)
    return lambda: progress(next(done), total) if progress else None


def _importance(
    owned: Mapping[str, tuple[int, ...]],
    sets: Sequence[tuple[int, ...]],
    found: Measures | None,
) -> Importance:
    """One level; `found` has the measures of `sets`, None if there are none."""
    zeros = np.zeros(len(owned))
    places = [sets.index(columns) if columns else -1 for columns in owned.values()]

    def share(measures: Array) -> Array:
        """Percent of the names, 0 where nothing varied; the last axis was the sets."""
        # the place -1 is one after the last set
        padded = np.concatenate([measures, np.zeros((*measures.shape[:-1], 1))], -1)
        return _percent(padded[..., places])

    def optional(measures: Array | None) -> Array | None:
        return None if measures is None else share(measures)

    if found is None:
        none = np.zeros((len(owned), 2))
        return Importance(
            tuple(owned), zeros, none, zeros, None, zeros, zeros, None, None, None
        )
    three = share(found.three)
    consensus = _mean(three)
    impurities = optional(found.impurity_draws)
    return Importance(
        names=tuple(owned),
        consensus=consensus,
        ci95=_interval(_mean(share(found.draws)), consensus),
        impurity=three[0],
        impurity_ci95=None if impurities is None else _interval(impurities, three[0]),
        permutation=three[1],
        shap=three[2],
        out_of_fold_permutation=optional(found.held),
        xgboost_shap=optional(found.boosted),
        agreement=_agreement(three[:, [place >= 0 for place in places]]),
    )


def _percent(measures: Array) -> Array:
    """Shares of the last axis, 0 where a measure found nothing."""
    total = measures.sum(axis=-1, keepdims=True)
    share: Array = 100 * measures / np.where(total > 0, total, 1.0)
    return share


def _mean(shares: Array) -> Array:
    """Consensus [.., k] of shares [.., 3, k]; a measure that found nothing is left out.

    Nothing is added to the others then: the mean is scaled to 100 percent again.
    """
    return _percent(shares.mean(axis=-2))


def _interval(draws: Array, estimate: Array) -> Array:
    """Percentile interval [k, 2] of draws [n, k] that holds the estimate [k]."""
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    return np.stack([np.minimum(low, estimate), np.maximum(high, estimate)], axis=1)


def _agreement(shares: Array) -> float | None:
    if shares.shape[1] < 2:
        return None
    pairs = itertools.combinations(shares, 2)
    return float(np.mean([spearman(a, b) for a, b in pairs]))


def _why_unreliable(rows: int, columns: int, fit: Fit) -> str | None:
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
