"""What each column adds to the predicted score of an allocation, in score units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import SpecError
from surrogate import trees
from surrogate.measures import FULL
from surrogate.rows import checked, distinct, standardized

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contributions:
    """SHAP values of m rows: mean + parts.sum(axis=1) is the prediction.

    All in score units: `mean` is what the forest predicts on average over the rows it
    was fitted to, `parts` [m, k] what every column adds, `predicted` [m] the forest's
    predictions.
    """

    mean: float
    parts: Array
    predicted: Array


def contributions(
    bits: ArrayLike, scores: ArrayLike, rows: ArrayLike, *, seed: int = 0
) -> Contributions:
    """Split a forest's predictions for some rows into the columns' parts.

    Args:
        bits: [n, k], the rows the forest is fitted to; equal rows are averaged.
        scores: [n], in any unit.
        rows: [m, k], the rows to explain, measured ones or others.
        seed: of the forest, which is the one `analyse` ranks by.

    Raises:
        SpecError: no rows, shapes that do not match, numbers that are not finite.
    """
    columns = np.shape(bits)[1] if np.ndim(bits) == 2 else 0
    table, values, _ = distinct(*checked(bits, scores, [""] * columns))
    asked = np.asarray(rows, dtype=np.float64)
    if asked.ndim != 2 or asked.shape[1] != columns or not np.isfinite(asked).all():
        raise SpecError(
            f"rows to explain need {columns} columns of finite numbers, got a table of "
            f"shape {asked.shape}"
        )
    scaled = standardized(values)
    if scaled is None or not len(asked):
        mean = float(values.mean())
        return Contributions(mean, np.zeros(asked.shape), np.full(len(asked), mean))
    target, mean, unit = scaled
    model = trees.forest(table, target, FULL.trees, seed)
    parts, base = trees.shap_values(model, asked)
    votes = trees.predicted(model, asked)
    return Contributions(mean + unit * base, unit * parts, mean + unit * votes)
