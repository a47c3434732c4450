"""Paired tests between allocations that were scored on the same samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.interval import surplus

if TYPE_CHECKING:
    from collections.abc import Sequence

# probability that a race stops the one that is best in truth
RACE_ERROR = 0.05


def is_better(
    values: Sequence[float],
    other: Sequence[float],
    error: float,
    strata: Sequence[int] = (),
) -> bool:
    """Whether values are higher than others of the same samples, on average.

    The test is one-sided, and wrong with probability `error` at most where there is no
    difference; few samples that differ do not suffice (`evals.interval.surplus`).

    >>> is_better([1.0] * 20 + [0.0] * 20, [0.0] * 40, 0.05)
    True
    >>> is_better([1.0] + [0.0] * 39, [0.0] * 40, 0.05)
    False
    """
    return surplus(values, other, 1.0, 1 - error, strata=strata) > 0


def could_be_best(
    rows: Sequence[Sequence[float]],
    strata: Sequence[int] = (),
    error: float = RACE_ERROR,
) -> list[int]:
    """Places of the rows that no other is surely better than.

    The row that is best in truth stays with probability 1 - `error`, however many there
    are: it is held against each of the others, and the tests share the error (as the
    races of Maron and Moore, "Hoeffding Races", 1994, with paired differences).

    Args:
        rows: scores [rows, samples] of the same samples; empty rows have none.
        strata: sizes of parts of the samples that stand one behind the other.
        error: probability of stopping the best.
    """
    known = [place for place, row in enumerate(rows) if row]
    if not known:
        return []
    each = error / max(1, len(known) - 1)
    best = max(known, key=lambda place: sum(rows[place]))
    return [
        place
        for place in known
        if place == best or not is_better(rows[best], rows[place], each, strata)
    ]
