"""Paired bootstrap over pictures, and Holm's correction for many comparisons.

Questions about one picture stand or fall together, so pictures are drawn, not
questions. All systems, cells and models are scored on the same pictures and see the
same draws: any difference, and any mean of differences, is paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Holm's narrowest level for 36 comparisons leaves out 0.07 % on either side
DRAWS = 20_000
BLOCK = 1_000
LEVEL = 0.05


def by_picture(values: Floats, questions: int) -> Floats:
    """Means over the questions of each picture: [..., n] to [..., n / questions].

    >>> by_picture(np.array([0.0, 1.0, 1.0, 1.0]), 2)
    array([0.5, 1. ])
    """
    means: Floats = values.reshape(*values.shape[:-1], -1, questions).mean(-1)
    return means


def drawn_means(rows: Floats, seed: int = 0, draws: int = DRAWS) -> Floats:
    """Means of rows [rows, pictures] over draws of the pictures: [draws, rows]."""
    size, rng = rows.shape[1], np.random.default_rng(seed)
    found = []
    for start in range(0, draws, BLOCK):
        times = np.empty((min(BLOCK, draws - start), size))
        for draw in times:
            draw[:] = np.bincount(rng.integers(size, size=size), minlength=size)
        found.append(times @ rows.T / size)
    return np.concatenate(found)


@dataclass(frozen=True)
class Difference:
    """A mean difference, its interval at a level, and whether chance may explain it.

    `p` is two-sided, and adjusted where several were compared.
    """

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def p_value(drawn: Floats) -> float:
    """Twice the share of draws on the rarer side of 0, which counts for both."""
    either = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    return float(min(1.0, 2 * (either + 1) / (len(drawn) + 1)))


def holm(ps: Sequence[float], level: float = LEVEL) -> tuple[list[float], list[float]]:
    """Adjusted p-values, and the level at which each interval is to be taken.

    Holm, "A simple sequentially rejective multiple test procedure" (1979): the smallest
    of m is held against level / m, the next against level / (m - 1), and so on until
    one fails, at whose level all others stand too. An interval at its level leaves out
    0 exactly where the test rejects.

    >>> holm([0.03, 0.01, 0.5])
    ([0.06, 0.03, 0.5], [0.025, 0.016666666666666666, 0.025])
    """
    order = sorted(range(len(ps)), key=lambda at: ps[at])
    adjusted, levels = [1.0] * len(ps), [level] * len(ps)
    reached, last = 0.0, None
    for rank, at in enumerate(order):
        left = len(ps) - rank
        reached = max(reached, min(1.0, left * ps[at]))
        adjusted[at] = reached
        levels[at] = level / left if last is None else last
        if last is None and ps[at] > level / left:
            last = level / left
    return adjusted, levels


def differences(means: Floats, drawn: Floats) -> list[Difference]:
    """Several differences, adjusted for each other.

    Args:
        means: [n] mean differences.
        drawn: [draws, n] the same on draws of the pictures.
    """
    ps = [p_value(own) for own in drawn.T]
    adjusted, levels = holm(ps)
    found = []
    for mean, own, p, level in zip(means, drawn.T, adjusted, levels, strict=True):
        ends: Any = np.percentile(own, (50 * level, 100 - 50 * level))
        found.append(Difference(float(mean), float(ends[0]), float(ends[1]), p))
    return found


def single(mean: float, drawn: Floats) -> Difference:
    """One difference, with nothing to adjust for."""
    return differences(np.array([mean]), drawn[:, None])[0]
