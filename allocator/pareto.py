"""Fronts of (bits per weight, score)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the non-dominated points, by rising bpw.

    A point (bpw, score) is dominated by one that is no larger and scores no less, and
    is better in one of the two. Of equal points the first stays.

    >>> front([(4.0, 70.0), (3.0, 60.0), (3.5, 59.0), (4.0, 71.0)])
    [1, 3]
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i))
    kept: list[int] = []
    best = float("-inf")
    for index in order:
        if points[index][1] > best:
            best = points[index][1]
            kept.append(index)
    return kept
