"""The even mix: the uniform allocation at a width between two that there are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from allocator.core.allocation import FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space

    Row = list[tuple[str, int]]


def even_mix(space: Space, method: str | None) -> Allocation:
    """Two neighbouring widths by one method, spread evenly: the widest mix that fits.

    The narrower width is the widest that fits everywhere. The same share of the weights
    of each component gets the wider one: its groups are taken in order, and what the
    last one got too much or too little is made up for by the next (error diffusion, as
    in Floyd and Steinberg 1976 for grey levels, along one line). The share is the
    largest with which the mix fits. Groups that pins leave no choice between the two
    widths are left out of the shares. Where the widest uniform allocation fits, or a
    single width is there, it is a uniform allocation.

    Args:
        space: choices and sizes.
        method: of every group below 16 bits.
    """
    own = (choice for choice in space.choices if choice.method in (method, None))
    steps = [space.near(choice) for choice in own]
    # the narrowest is of the least size, and fits
    at = max(place for place, each in enumerate(steps) if space.fits(each))
    if at + 1 == len(steps):
        return steps[at]
    return _mix(space, steps[at], steps[at + 1])


def _mix(space: Space, narrow: Allocation, wide: Allocation) -> Allocation:
    """The mix of two allocations by the largest share that fits."""
    low = dict(narrow)
    wider = {key: choice for key, choice in wide if choice != low[key]}
    sizes = space.group_bytes
    added = {k: sizes[k][c.bits] - sizes[k][low[k].bits] for k, c in wider.items()}
    rows: dict[str, Row] = {}
    for key in wider:
        # at 16 bits a size is the number of weights, twice
        row = rows.setdefault(key.split(".", maxsplit=1)[0], [])
        row.append((key, int(sizes[key][FULL])))
    left = space.room - space.bytes(narrow)
    share = math.inf
    while True:
        chosen, share = _below(list(rows.values()), share)
        if sum(added[key] for key in chosen) <= left:
            return narrow.replace({key: wider[key] for key in chosen})


def _below(rows: Sequence[Row], limit: float) -> tuple[list[str], float]:
    """Groups at the wider width for shares just below a limit, and down to which.

    Args:
        rows: groups of each component in order, with their weights.
        limit: a share of the weights.
    """
    chosen, least = list[str](), -math.inf
    for row in rows:
        before = given = 0
        for key, weights in row:
            before += weights
            # wide where share * before - given, what is due by now, is half of it
            from_share = (given + weights / 2) / before
            if from_share < limit:
                given += weights
                chosen.append(key)
                least = max(least, from_share)
    return chosen, least
