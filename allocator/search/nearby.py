"""Allocations near one, by what each single change does there.

Damages of groups that are quantized alone add up roughly; what a change does to an
allocation that is nearly chosen adds up better, as long as few are made at once. So a
few changes are looked at where they would be made, and knapsacks over what they did
give allocations with few changes and with many.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.allocation import FULL
from allocator.strategies._knapsack import least

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space

    Change = tuple[str, Choice]
    Damage = Mapping[Change, float]

# widths above its own that a group may be raised to at once
STEPS = 2
# what each change has to gain for itself, in medians of what changes do
HURDLES = (0.0, 0.5, 1.0, 2.0, 4.0)


def changes(
    space: Space, allocation: Allocation, damage: Damage, most: int
) -> list[Change]:
    """Single changes worth a look, as many up as down and of methods alone, if so many.

    Up by one width or two, down by one, or to the next best method, each time by the
    method that does least damage.

    Args:
        space: what may be chosen.
        allocation: what would change.
        damage: of each group at each choice alone, finite; 16 bits do none.
        most: changes wanted.
    """

    def at(key: str, choice: Choice) -> float:
        return 0.0 if choice.bits == FULL else damage[key, choice]

    ups: dict[Change, float] = {}
    downs: dict[Change, float] = {}
    methods: dict[Change, float] = {}
    for key, own in allocation:
        levels, sizes = space.levels[key], space.group_bytes[key]
        best = {bits: min(of, key=lambda c: at(key, c)) for bits, of in levels.items()}
        worse = {
            choice: at(key, choice) - at(key, own) for choice in space.allowed[key]
        }
        wider = [bits for bits in levels if bits > own.bits][:STEPS]
        narrower = [bits for bits in levels if bits < own.bits][-1:]
        for found, widths in ((ups, wider), (downs, narrower)):
            for bits in widths:
                bytes_ = abs(sizes[bits] - sizes[own.bits])
                found[key, best[bits]] = worse[best[bits]] / max(bytes_, 1)
        others = [c for c in levels.get(own.bits, ()) if c != own]
        if others:
            other = min(others, key=lambda c: at(key, c))
            methods[key, other] = worse[other]
    listed = [sorted(each, key=each.__getitem__) for each in (ups, downs, methods)]
    mixed = [each for row in zip_longest(*listed) for each in row if each]
    return mixed[:most]


def near(
    space: Space,
    allocation: Allocation,
    effects: Mapping[Change, float],
    tried: Sequence[Allocation] = (),
) -> list[Allocation]:
    """Allocations that make the most of single changes within the budget.

    Each hurdle gives one, with ever fewer changes; there is none where nothing gains
    that much.

    Args:
        space: what may be chosen, within which budget.
        allocation: what would change.
        effects: what single changes add to a loss; others are not made.
        tried: allocations that are not wanted.
    """
    sizes = np.abs([effect for effect in effects.values() if effect])
    if not len(sizes):
        return []
    # beyond all that is known together
    barred = 10 * float(sizes.sum())
    own = dict(allocation.choices)
    found: list[Allocation] = []
    for hurdle in HURDLES:
        gain = hurdle * float(np.median(sizes))
        table = {
            (key, choice): 0.0
            if choice == own[key]
            else effects.get((key, choice), barred) + gain
            for key in space.keys
            for choice in space.allowed[key]
        }
        each = least(space, table, [*tried, *found])
        if each is None or each == allocation or not _known(each, own, effects):
            continue
        found.append(each)
    return found


def _known(
    found: Allocation, own: Mapping[str, Choice], effects: Mapping[Change, float]
) -> bool:
    """Whether all that changed is known: else the budget was not kept before."""
    return all(choice == own[key] or (key, choice) in effects for key, choice in found)


def lowest(
    allocations: Sequence[Allocation], losses: Mapping[str, float], most: int
) -> list[Allocation]:
    """Those of the lowest loss, by digest."""
    return sorted(allocations, key=lambda each: losses[each.digest])[:most]
