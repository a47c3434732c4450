"""Moves that never leave the budget: fill, repair, mutate.

Room is counted by the costs of single groups, also where those are an estimate: what
may be measured in the end is for `Space.nearest` to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.allocation import FULL

# also here, where the other moves are
from allocator.strategies._knapsack import knapsack as knapsack

if TYPE_CHECKING:
    import numpy as np

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space

# switches of a mutation: the smaller of two draws from 1 to this, as in EvoPress
SWITCHES = 3
# how often a switch is one of methods, where there are several
METHOD_SWITCHES = 0.3


def fill(space: Space, allocation: Allocation, rng: np.random.Generator) -> Allocation:
    """Widen groups by a level in random order, pass after pass, while one fits."""
    chosen = dict(allocation.choices)
    left = _left(space, allocation)
    widened = True
    while widened:
        widened = False
        for place in rng.permutation(len(space.keys)):
            key = space.keys[place]
            bytes_, own = space.group_bytes[key], chosen[key]
            if own.bits >= space.widths[-1]:
                continue
            wider = widen(space, own)
            cost = bytes_[wider.bits] - bytes_[own.bits]
            if cost <= left:
                chosen[key], left = wider, left - cost
                widened = True
    return allocation.replace(chosen)


def repair(
    space: Space,
    allocation: Allocation,
    rng: np.random.Generator,
    spared: str | None = None,
) -> Allocation:
    """Narrow random groups, a level at a time, until the budget is kept.

    The group that is spared is narrowed only where all others are at their narrowest.
    """
    chosen = dict(allocation.choices)
    left = _left(space, allocation)
    while left < 0:
        wide = [key for key, own in chosen.items() if own.bits > space.widths[0]]
        if not wide:
            break  # sums of estimates may differ in their last digits
        others = [key for key in wide if key != spared] or wide
        key = others[rng.integers(len(others))]
        bytes_, own = space.group_bytes[key], chosen[key]
        narrower = next(bits for bits in reversed(space.widths) if bits < own.bits)
        left += bytes_[own.bits] - bytes_[narrower]
        chosen[key] = _like(space, own, narrower)
    return allocation.replace(chosen)


def widen(space: Space, own: Choice) -> Choice:
    """The next wider choice, by the same method if there is one; at most the widest."""
    wider = next((bits for bits in space.widths if bits > own.bits), own.bits)
    return own if wider == own.bits else _like(space, own, wider)


def _left(space: Space, allocation: Allocation) -> float:
    """Room that an allocation leaves, by the costs of its groups."""
    return space.room - sum(space.group_bytes[k][c.bits] for k, c in allocation)


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


def switch(
    space: Space, allocation: Allocation, rng: np.random.Generator
) -> Allocation:
    """A few level switches that keep the budget, and switches of methods.

    As EvoPress mutates (arXiv 2410.14649): one group a level up, others down until the
    budget is kept again. Groups differ in size: what is left over is filled.
    """
    child = allocation
    for _ in range(rng.integers(1, SWITCHES + 1, size=2).min()):
        methods = _other_methods(space, child)
        if methods and rng.random() < METHOD_SWITCHES:
            key, choice = methods[rng.integers(len(methods))]
            child = child.replace({key: choice})
        else:
            child = _level_switched(space, child, rng)
    return fill(space, child, rng)


def _other_methods(space: Space, allocation: Allocation) -> list[tuple[str, Choice]]:
    """Other methods of the same width that groups could get."""
    return [
        (key, choice)
        for key, own in allocation
        if own.bits != FULL
        for choice in space.by_width.get(own.bits, ())
        if choice != own
    ]


def _level_switched(
    space: Space, allocation: Allocation, rng: np.random.Generator
) -> Allocation:
    """One group a level up, others down until the budget is kept again."""
    widest = space.widths[-1]
    narrow = [key for key, own in allocation if own.bits < widest]
    if not narrow:
        return allocation
    key = narrow[rng.integers(len(narrow))]
    raised = allocation.replace({key: widen(space, allocation[key])})
    return repair(space, raised, rng, spared=key)


def scatter(space: Space, rng: np.random.Generator) -> Allocation:
    """A random allocation that fills the budget."""
    picks = {key: space.choices[rng.integers(len(space.choices))] for key in space.keys}
    return fill(space, repair(space, space.smallest.replace(picks), rng), rng)
