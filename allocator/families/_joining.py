"""Sets of linears that hold in every block of a row, from those of each block."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.families._mixing import ALL, ATTENTION, FEED_FORWARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.families._blocks import Readers

TYPES = (ATTENTION, FEED_FORWARD, ALL)


def joined(found: Sequence[Readers], others: Sequence[Readers]) -> list[Readers]:
    """Sets of linears that hold in several blocks: no larger than in any of them.

    Linears that a block does not have stay with those that they are with elsewhere. A
    fold is that of all blocks, or none; what mixes tokens in one is attention in all.

    >>> from allocator.families._blocks import Readers
    >>> joined([Readers("q k v", "attn")], [Readers("q", "attn"), Readers("o", "attn")])
    ... # doctest: +NORMALIZE_WHITESPACE
    [Readers(names='q k v', type='attn', fold=None, added=0.0, experts=False),
     Readers(names='o', type='attn', fold=None, added=0.0, experts=False)]
    """
    one, other = _numbers(found), _numbers(others)
    both = sorted((one[name], n) for name, n in other.items() if name in one)
    # where a block lacks linears, they are in the first set that has others of theirs
    there = dict(reversed(both))
    here = {n: number for number, n in reversed(both)}
    sets: dict[tuple[int | None, int | None], list[str]] = {}
    for name in _in_order(list(one), list(other)):
        pair = (
            one[name] if name in one else here.get(other[name]),
            other[name] if name in other else there.get(one[name]),
        )
        sets.setdefault(pair, []).append(name)
    return [
        _both(
            names,
            ([] if a is None else [found[a]]) + ([] if b is None else [others[b]]),
        )
        for (a, b), names in sets.items()
    ]


def _numbers(sets: Sequence[Readers]) -> dict[str, int]:
    """Which set each name is in."""
    return {name: n for n, each in enumerate(sets) for name in each.names.split()}


def _in_order(names: list[str], others: list[str]) -> list[str]:
    """All names, those of the second list in front of what follows them there."""
    place = len(names)
    for name in reversed(others):
        if name in names:
            place = names.index(name)
        else:
            names.insert(place, name)
    return names


def _both(names: Sequence[str], sets: Sequence[Readers]) -> Readers:
    """A set of what is in one set, or in both of two."""
    one, other = sets[0], sets[-1]
    found = replace(one, names=" ".join(names))
    # some blocks read keys where nobody sees them, and some show nothing
    types = sorted({each.type for each in sets}, key=TYPES.index)
    found = replace(found, type=types[0])
    whole = all(set(each.names.split()) <= set(names) for each in sets)
    if whole and (one.fold, one.added) == (other.fold, other.added):
        return found
    return replace(found, fold=None, added=0.0)
