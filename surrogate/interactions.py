"""Which two groups or components hurt the scores otherwise than one by one.

SHAP interaction values of XGBoost's trees (Lundberg et al., "From local explanations to
global understanding with explainable AI for trees", 2020) split every prediction into
main effects, one a column, and interactions, one a pair of columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import SpecError
from surrogate import trees
from surrogate.rows import checked, distinct, r2, standardized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

# one row in five is held out, and there must be a few of them
HELD, MIN_ROWS = 5, 20
# a model that explains less of the rows held out has found no pairs
MIN_R2 = 0.2
# the mean over more rows would say the same
MOST_ROWS = 1000
BLOCK = 256


@dataclass(frozen=True)
class Pair:
    """Two columns, or two components, that interact.

    `strength` is the mean |2 x SHAP interaction value| over the rows, in score units:
    SHAP gives half of an interaction to each side. `share` is its percent of the sum of
    all main effects' and pairs' strengths.
    """

    first: str
    second: str
    strength: float
    share: float


@dataclass(frozen=True)
class Interactions:
    """All pairs, the strongest first.

    `holdout_r2` says how well a model fitted to four fifths of the `rows` distinct rows
    predicts the others, None where there are too few. `reason` says in one sentence why
    the pairs mean nothing, None where they do.
    """

    pairs: tuple[Pair, ...]
    holdout_r2: float | None
    rows: int
    reason: str | None


def interactions(
    bits: ArrayLike,
    scores: ArrayLike,
    names: Sequence[str],
    *,
    owners: Sequence[str] | None = None,
    seed: int = 0,
) -> Interactions:
    """Rank pairs by their SHAP interaction values.

    Equal rows are averaged. The values are of a model fitted to all rows; a second
    model, fitted without a fifth of them, says what such a model is worth. Over more
    than a thousand rows the mean is taken over a draw of them.

    Args:
        bits: [n, k], the columns, raw bits.
        scores: [n], in any unit.
        names: k names of the columns.
        owners: the component of every column: values of pairs of columns are summed,
            signed, over the members of two components in every row before their size is
            taken, and what happens within a component is its main effect. None ranks
            the columns themselves.
        seed: of the rows held out and of the trees.

    Raises:
        SpecError: no rows, shapes that do not match, numbers that are not finite.
    """
    table, values, _ = distinct(*checked(bits, scores, names))
    owned = names if owners is None else owners
    if len(owned) != len(names):
        raise SpecError(f"{len(names)} columns need as many owners, got {len(owned)}")
    scaled = standardized(values)
    if scaled is None:
        reason = f"All {len(values)} distinct rows have the same score."
        return Interactions((), None, len(values), reason)
    target, _, unit = scaled
    rng = np.random.default_rng(seed)
    quality = _holdout_r2(table, target, seed, rng)
    kept = np.sort(rng.permutation(len(table))[:MOST_ROWS])
    split = _values(table, target, kept, seed)
    return Interactions(
        _pairs(split * unit, owned), quality, len(values), _reason(quality, len(values))
    )


def _holdout_r2(
    table: Array, target: Array, seed: int, rng: np.random.Generator
) -> float | None:
    rows = len(target)
    if rows < MIN_ROWS:
        return None
    order = rng.permutation(rows)
    held, seen = order[: rows // HELD], order[rows // HELD :]
    if np.ptp(target[held]) == 0:
        return None
    booster = trees.boosted(table[seen], target[seen], seed)
    # scored against the mean of the rows held out, as the coefficient is defined
    return r2(trees.boosted_votes(booster, table[held]), target[held])


def _values(table: Array, target: Array, kept: NDArray[np.intp], seed: int) -> Array:
    """SHAP interaction values [rows, k, k] of the model of all rows."""
    import xgboost

    booster = trees.boosted(table, target, seed)
    blocks = np.array_split(kept, -(-len(kept) // BLOCK))

    def of_block(rows: NDArray[np.intp]) -> Array:
        data = xgboost.DMatrix(table[rows], nthread=1)
        found: Array = booster.predict(data, pred_interactions=True)
        return found[:, :-1, :-1].astype(np.float64)

    return np.concatenate(trees.in_threads(of_block, blocks))


def _pairs(split: Array, owners: Sequence[str]) -> tuple[Pair, ...]:
    names = list(dict.fromkeys(owners))
    member = np.array([[owner == name for owner in owners] for name in names])
    # signed sums over the columns of both sides, [rows, names, names]
    summed = np.einsum("ai,nij,bj->nab", member, split, member, optimize=True)
    size = np.abs(summed).mean(axis=0)
    first, second = np.triu_indices(len(names), 1)
    strengths = 2 * size[first, second]
    total = np.trace(size) + strengths.sum()
    order = np.argsort(-strengths, kind="stable")
    return tuple(
        Pair(
            names[first[at]],
            names[second[at]],
            float(strengths[at]),
            float(100 * strengths[at] / total) if total > 0 else 0.0,
        )
        for at in order
    )


def _reason(quality: float | None, rows: int) -> str | None:
    if quality is None:
        return f"{rows} distinct rows are too few to look for pairs."
    if quality < MIN_R2:
        return (
            "XGBoost does not predict rows it has not seen: R2 "
            f"{quality:.2f}, {MIN_R2} needed."
        )
    return None
