"""What a report shows of trials as parallel coordinates: axes, and bands of lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.report.view import (
    FULL_BITS,
    importance,
    lower_is_better,
    owner_of,
    trials,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Data = Mapping[str, Any]

# axes of the parallel coordinates beside size and score
MOST_AXES = 5


@dataclass(frozen=True)
class Axis:
    """One of the parallel coordinates; a value for every trial."""

    name: str
    values: list[float]


def axes(data: Data) -> list[Axis]:
    """Mean bits by component, or by group where those are few; size; score."""
    rows = [row for row in trials(data) if row.allocation]
    keys = list(dict.fromkeys(key for row in rows for key in row.allocation))
    owners = owner_of(keys)
    if owners:
        parts = [
            (f"{name}, mean bits", [key for key in keys if owners[key] == name])
            for name in dict.fromkeys(owners.values())
        ]
    else:
        parts = [(key, [key]) for key in _most_important(data, keys)]
    found = [
        Axis(name, [_mean_bits(row.allocation, own) for row in rows])
        for name, own in parts[:MOST_AXES]
    ]
    found.append(Axis("size, bpw", [row.bpw for row in rows]))
    name = "score, low is best" if lower_is_better(data) else "score"
    found.append(Axis(name, [row.score for row in rows]))
    return found if rows else []


def _most_important(data: Data, keys: list[str]) -> list[str]:
    if len(keys) <= MOST_AXES:
        return keys
    ranked = [share.name for share in importance(data, "group")]
    best = [*(name for name in ranked if name in keys), *keys][:MOST_AXES]
    return [key for key in keys if key in best][:MOST_AXES]


def _mean_bits(allocation: Data, keys: Sequence[str]) -> float:
    bits = [allocation[key]["bits"] for key in keys if key in allocation]
    return sum(bits) / len(bits) if bits else float(FULL_BITS)


def scaled(values: Sequence[float]) -> list[float]:
    """Values between 0 and 1; in the middle where all are the same.

    >>> scaled([1.0, 3.0, 2.0])
    [0.0, 1.0, 0.5]
    """
    low, high = min(values), max(values)
    if low == high:
        return [0.5] * len(values)
    return [(value - low) / (high - low) for value in values]


def bands(scores: Sequence[float], lower: bool = False) -> list[int]:
    """The band of each score: 0 for the best tenth, 1 for the better half, 2 below.

    >>> bands([1.0, 4.0, 3.0, 2.0])
    [2, 0, 1, 2]
    """
    sign = 1 if lower else -1
    order = sorted(range(len(scores)), key=lambda index: sign * scores[index])
    found = [2] * len(scores)
    for place, index in enumerate(order):
        if place < max(1, len(scores) // 10):
            found[index] = 0
        elif place < len(scores) / 2:
            found[index] = 1
    return found
