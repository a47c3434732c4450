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


def knee(points: Sequence[tuple[float, float]]) -> int:
    """Index of the point of a front that lies furthest above the line of its ends.

    Both axes are scaled to the front's own range (Satopaa et al., "Finding a 'kneedle'
    in a haystack", 2011). With fewer than three points: the last one.

    >>> knee([(2.0, 30.0), (3.0, 88.0), (8.0, 90.0)])
    1
    """
    if len(points) < 3:
        return len(points) - 1
    sizes, scores = zip(*points, strict=True)
    wide, high = sizes[-1] - sizes[0], scores[-1] - scores[0]
    above = [
        (score - scores[0]) / high - (size - sizes[0]) / wide for size, score in points
    ]
    return above.index(max(above))
