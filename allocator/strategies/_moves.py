"""Moves that never leave the budget: fill, repair, mutate; and the exact knapsack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.allocation import Allocation, Choice
    from allocator.space import Space

# the knapsack's capacity is counted in this many steps; costs are rounded up to them
STEPS = 4096


def fill(space: Space, allocation: Allocation, rng: np.random.Generator) -> Allocation:
    """Widen groups by a level in random order, pass after pass, while one fits."""
    chosen = dict(allocation.choices)
    left = space.room - space.bytes(allocation)
    widened = True
    while widened:
        widened = False
        for place in rng.permutation(len(space.keys)):
            key = space.keys[place]
            bytes_, own = space.group_bytes[key], chosen[key]
            if own.bits == space.widths[-1]:
                continue
            wider = space.widths[space.widths.index(own.bits) + 1]
            cost = bytes_[wider] - bytes_[own.bits]
            if cost <= left:
                chosen[key], left = _like(space, own, wider), left - cost
                widened = True
    return allocation.replace(chosen)


def repair(
    space: Space, allocation: Allocation, rng: np.random.Generator
) -> Allocation:
    """Narrow random groups, a level at a time, until the budget is kept."""
    chosen = dict(allocation.choices)
    left = space.room - space.bytes(allocation)
    while left < 0:
        wide = [key for key, own in chosen.items() if own.bits > space.widths[0]]
        key = wide[rng.integers(len(wide))]
        bytes_, own = space.group_bytes[key], chosen[key]
        narrower = space.widths[space.widths.index(own.bits) - 1]
        left += bytes_[own.bits] - bytes_[narrower]
        chosen[key] = _like(space, own, narrower)
    return allocation.replace(chosen)


def _like(space: Space, own: Choice, bits: int) -> Choice:
    """The choice of a width by the method of another choice, if there is one."""
    found = space.by_width[bits]
    return next((choice for choice in found if choice.method == own.method), found[0])


def mutate(
    space: Space, allocation: Allocation, rng: np.random.Generator
) -> Allocation:
    """Switch a few groups to another choice, then repair and fill."""
    keys = space.keys
    count = min(len(keys), 1 + int(rng.geometric(0.5)))
    changes = {
        keys[place]: space.choices[rng.integers(len(space.choices))]
        for place in rng.choice(len(keys), size=count, replace=False)
    }
    return fill(space, repair(space, allocation.replace(changes), rng), rng)


def scatter(space: Space, rng: np.random.Generator) -> Allocation:
    """A random allocation that fills the budget."""
    picks = {key: space.choices[rng.integers(len(space.choices))] for key in space.keys}
    return fill(space, repair(space, space.smallest.replace(picks), rng), rng)


def knapsack(space: Space, damage: Mapping[tuple[str, Choice], float]) -> Allocation:
    """The allocation of least summed damage under the budget.

    Multiple-choice knapsack by dynamic programming (Kellerer, Pferschy, Pisinger,
    "Knapsack Problems", 2004, chapter 11), exact but for costs rounded up to 1/4096 of
    the capacity: the answer always keeps the budget.
    """
    least = space.bytes(space.smallest)
    unit = max(1.0, (space.room - least) / STEPS)
    capacity = int((space.room - least) / unit)
    best = np.zeros(capacity + 1)
    picks: list[np.ndarray] = []
    for key in space.keys:
        bytes_ = space.group_bytes[key]
        floor = bytes_[space.choices[0].bits]
        rows = np.full((len(space.choices), capacity + 1), np.inf)
        for row, choice in enumerate(space.choices):
            cost = int(np.ceil((bytes_[choice.bits] - floor) / unit))
            if cost <= capacity:
                rows[row, cost:] = best[: capacity + 1 - cost] + damage[key, choice]
        picks.append(rows.argmin(axis=0))
        best = rows.min(axis=0)
    left, chosen = capacity, {}
    for key, pick in zip(reversed(space.keys), reversed(picks), strict=True):
        choice = space.choices[pick[left]]
        bytes_ = space.group_bytes[key]
        floor = bytes_[space.choices[0].bits]
        left -= int(np.ceil((bytes_[choice.bits] - floor) / unit))
        chosen[key] = choice
    return space.smallest.replace(chosen)
