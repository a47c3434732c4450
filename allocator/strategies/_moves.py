"""Moves that never leave the budget: fill, repair, mutate.

Room is counted by the costs of single groups, also where those are an estimate: what
may be measured in the end is for `Space.nearest` to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.allocation import FULL
from allocator.space.base import of_method

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
            wider = widen(space, key, own)
            if wider == own:
                continue
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
        wide = [k for k, own in chosen.items() if own.bits > space.allowed[k][0].bits]
        if not wide:
            break  # sums of estimates may differ in their last digits
        others = [key for key in wide if key != spared] or wide
        key = others[rng.integers(len(others))]
        bytes_, own = space.group_bytes[key], chosen[key]
        levels = space.levels[key]
        narrower = next(bits for bits in reversed(levels) if bits < own.bits)
        left += bytes_[own.bits] - bytes_[narrower]
        chosen[key] = of_method(levels[narrower], own.method)
    return allocation.replace(chosen)


def widen(space: Space, key: str, own: Choice) -> Choice:
    """A group's next wider choice, by the same method if there is one, or its own."""
    levels = space.levels[key]
    wider = next((bits for bits in levels if bits > own.bits), None)
    return own if wider is None else of_method(levels[wider], own.method)


def _left(space: Space, allocation: Allocation) -> float:
    """Room that an allocation leaves, by the costs of its groups."""
    return space.room - sum(space.group_bytes[k][c.bits] for k, c in allocation)


def mutate(
    space: Space, allocation: Allocation, rng: np.random.Generator
) -> Allocation:
    """Switch a few groups to another choice, then repair and fill."""
    keys = space.keys
    count = min(len(keys), 1 + int(rng.geometric(0.5)))
    places = rng.choice(len(keys), size=count, replace=False)
    changes = {keys[place]: _any(space, keys[place], rng) for place in places}
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
        for choice in space.levels[key].get(own.bits, ())
        if choice != own
    ]


def _level_switched(
    space: Space, allocation: Allocation, rng: np.random.Generator
) -> Allocation:
    """One group a level up, others down until the budget is kept again."""
    narrow = [k for k, own in allocation if own.bits < space.allowed[k][-1].bits]
    if not narrow:
        return allocation
    key = narrow[rng.integers(len(narrow))]
    raised = allocation.replace({key: widen(space, key, allocation[key])})
    return repair(space, raised, rng, spared=key)


def scatter(space: Space, rng: np.random.Generator) -> Allocation:
    """A random allocation that fills the budget."""
    picks = {key: _any(space, key, rng) for key in space.keys}
    return fill(space, repair(space, space.smallest.replace(picks), rng), rng)


def _any(space: Space, key: str, rng: np.random.Generator) -> Choice:
    """Anything that a group may get."""
    allowed = space.allowed[key]
    return allowed[rng.integers(len(allowed))]
