"""Which groups or components the measured scores depend on, and how sure that is.

One random forest is fitted to all rows, equal rows averaged, and asked three times: by
its impurity decrease, by its increase in squared error on the same rows when a column
is permuted (Breiman, "Random forests", Machine Learning 45, 2001; the mean over
repeats, negative means set to 0) and by its mean |SHAP| (Lundberg et al., "From local
explanations to global understanding with explainable AI for trees", Nature Machine
Intelligence 2, 2020). Each is scaled to 100 percent; the consensus is their mean, as in
arXiv 2601.15287. The same forest is asked about groups, layer types, block groups and
components: these are sets of its columns.

What is estimated are the shares that the same measures find in the true scores of very
many rows of the same kind: those of a search lie near its budget and rank the names
there, not over the whole grid. Few rows say less than that in three ways: they are
other rows, of which some are alike; their scores are noisy, or only suggested by looks;
a forest of few rows shares more evenly. How much the shares vary by the first two is
seen in halves of the rows, their scores drawn anew, by forests of 10 trees, of depth 8
at most; by the third these share still more evenly than the whole. The 95 % interval is
a t interval of the shares' arcsines, from the deviation of the draws, around both their
mean and the estimate (how often it holds the truth: studies/statistics).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import SpecError
from surrogate.measures import THOROUGH, Data, Effort, Fit, Measures, measure
from surrogate.rows import (
    checked,
    distinct,
    first_of_equal,
    mean_of_equal,
    standardized,
)

# offered here too: looks and scores are compared by the same correlation
from surrogate.rows import spearman as spearman

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from surrogate.imputation import Imputation
    from surrogate.trees import Sets

    Array = NDArray[np.float64]
    Rows = NDArray[np.intp]
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
    `consensus` [k] is their mean, `ci95` [k, 2] its interval and `impurity_ci95` [k, 2]
    that of `impurity`. `out_of_fold_permutation` and `xgboost_shap` [k] in percent
    stand beside the consensus; both are None where the effort left them out or nothing
    can be fitted. All are 0 for a name whose columns never varied, and for every name
    where all scores are the same. `agreement` is the mean Spearman correlation between
    the three shares, None for a single varying name.
    """

    names: tuple[str, ...]
    consensus: Array
    ci95: Array
    impurity: Array
    impurity_ci95: Array
    permutation: Array
    shap: Array
    out_of_fold_permutation: Array | None
    xgboost_shap: Array | None
    agreement: float | None


@dataclass(frozen=True, eq=False)
class Analysis:
    """Importance at every level, and whether it can be trusted.

    `models` has the out-of-fold fit of "forest" and "linear" (least squares), and of
    "xgboost" where the effort includes it. `rows` counts the distinct rows, and `worth`
    how many measured rows tell as much as they do; `constant` names the columns that
    never varied. `reason` says in one sentence why the ranking is not reliable, None
    where it is; `warning` says which rows were averaged, None where none disagreed.
    """

    levels: Mapping[str, Importance]
    models: Mapping[str, Fit]
    rows: int
    worth: float
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
    clusters: Rows | None = None,
    imputation: Imputation | None = None,
    seed: int = 0,
    effort: Effort = THOROUGH,
    progress: Progress | None = None,
) -> Analysis:
    """Rank columns and sets of columns; the same for a seed, in any order of the rows.

    Args:
        bits: [n, k], the columns, raw bits.
        scores: [n], in any unit and direction.
        names: k names of the columns.
        levels: for each level the owner of every column, k names; its importance has
            each owner once, in order of appearance. None is {"group": names}.
        clusters: [n], equal for rows that descend from one, None if each is for itself.
        imputation: where not all scores were measured: `scores` are what it expects.
        seed: of forests, permutations, draws and folds.
        effort: `THOROUGH` or `QUICK`.
        progress: told parts done and parts in all.

    Raises:
        SpecError: no rows, a level or scores of another shape, numbers not finite.
    """
    given, known = checked(bits, scores, names)
    table, values, warning = distinct(given, known)
    varying = np.ptp(table, axis=0) > 0
    levels = {"group": names} if levels is None else levels
    wanted = {level: _sets(level, owners, varying) for level, owners in levels.items()}
    found = None
    if (scaled := standardized(values)) is not None:
        redraw = None if imputation is None else _redraw(given, imputation, scaled)
        alike = None if clusters is None else first_of_equal(given, clusters)
        data = Data(table[:, varying], scaled[0], _every(wanted), alike, redraw)
        found = measure(data, effort, seed, _counted(effort, progress))
    worth = float(len(values)) if imputation is None else imputation.worth
    return Analysis(
        {name: _importance(own, _every(wanted), found) for name, own in wanted.items()},
        dict(found.models) if found else dict.fromkeys(effort.models, Fit()),
        len(values),
        worth,
        tuple(n for n, v in zip(names, varying, strict=True) if not v),
        _why_unreliable(len(values), worth, int(varying.sum()), imputation, found),
        warning,
    )


def _redraw(
    given: Array, imputation: Imputation, scaled: tuple[Array, float, float]
) -> Callable[[np.random.Generator], Array]:
    """Draws of the scores of the distinct rows, in the unit of those `scaled`."""
    _, mean, deviation = scaled

    def redraw(rng: np.random.Generator) -> Array:
        return (mean_of_equal(given, imputation.draw(rng)) - mean) / deviation

    return redraw


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


def _every(wanted: Mapping[str, Mapping[str, tuple[int, ...]]]) -> Sets:
    """All sets that some level has: one of several levels is measured once."""
    return sorted({own for owned in wanted.values() for own in owned.values()} - {()})


def _counted(effort: Effort, progress: Progress | None) -> Callable[[], object]:
    """A function to call after every draw."""
    done = itertools.count(1)
    return lambda: progress(next(done), effort.draws) if progress else None


def _importance(
    owned: Mapping[str, tuple[int, ...]],
    sets: Sets,
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

    def interval(draws: Array, estimate: Array) -> Array:
        ends = _interval(draws, estimate)
        ends[[place < 0 for place in places]] = 0
        return ends

    if found is None:
        none = np.zeros((len(owned), 2))
        return Importance(
            tuple(owned), zeros, none, zeros, none, zeros, zeros, None, None, None
        )
    three = share(found.three)
    consensus = _mean(three)
    draws = share(found.draws)
    return Importance(
        names=tuple(owned),
        consensus=consensus,
        ci95=interval(_mean(draws), consensus),
        impurity=three[0],
        impurity_ci95=interval(draws[:, 0], three[0]),
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
    """95 % interval [k, 2] from draws [n, k] that holds the estimate [k], in percent.

    Of shares the arcsine of the root varies alike, whatever they are.
    """
    from scipy.special import stdtrit

    angles, own = _angles(draws), _angles(estimate)
    reach = stdtrit(len(draws) - 1, 0.975) * angles.std(axis=0, ddof=1)
    mean = angles.mean(axis=0)
    low = np.minimum(mean, own) - reach
    high = np.maximum(mean, own) + reach
    low, high = (100 * np.sin(a.clip(0, np.pi / 2)) ** 2 for a in (low, high))
    # as far as rounding lets them
    return np.stack([np.minimum(low, estimate), np.maximum(high, estimate)], axis=1)


def _angles(percent: Array) -> Array:
    found: Array = np.arcsin(np.sqrt(percent.clip(0, 100) / 100))
    return found


def _agreement(shares: Array) -> float | None:
    if shares.shape[1] < 2:
        return None
    pairs = itertools.combinations(shares, 2)
    return float(np.mean([spearman(a, b) for a, b in pairs]))


def _why_unreliable(
    rows: int,
    worth: float,
    columns: int,
    imputation: Imputation | None,
    found: Measures | None,
) -> str | None:
    if found is None:
        return f"All {rows} distinct rows have the same score."
    # fewer rows than columns rank nothing, whatever the forest predicts
    enough = max(MIN_ROWS, columns)
    if worth < enough:
        return (
            f"{_rows(rows, worth, imputation)} are too few for {columns} varying "
            f"features; it takes {enough}."
        )
    needed = max(MIN_SPEARMAN, CHANCE / (worth - 1) ** 0.5)
    reached = found.models["forest"].spearman
    if reached is not None and reached < needed:
        return (
            "The forest does not predict rows it has not seen: Spearman "
            f"{reached:.2f}, {needed:.2f} needed."
        )
    return None


def _rows(rows: int, worth: float, imputation: Imputation | None) -> str:
    """What there is to learn from."""
    if imputation is None:
        return f"{rows} distinct rows"
    measured = int(imputation.measured.sum())
    told = f"{measured} measured rows"
    if looked := len(imputation.measured) - measured:
        told += f", and {looked} whose looks are worth {worth - measured:.0f} more,"
    return told
