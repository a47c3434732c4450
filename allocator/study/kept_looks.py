"""Cheap looks as a study keeps them: in one piece for each proposal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.finite import is_number
from allocator.study.attributes import kept_in, kept_under
from allocator.study.bulk import all_stays
from allocator.study.places import Readers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space

    Look = tuple[str, Allocation, tuple[str, int], float | None]

# how the names of attributes begin that hold looks
LOOKS = "looks:"


def with_looks(
    found: Mapping[str, Any],
    space: Space,
    place: tuple[str, str],
    looks: Sequence[tuple[Allocation, tuple[str, int], float]],
) -> tuple[str, dict[str, Any]]:
    """Name and value of the attribute that keeps looks, those of before among them.

    Args:
        found: everything that is kept with the study.
        space: whose allocations they are at.
        place: the budget, and the digest of the allocation that was chosen by them.
        looks: allocation, (kind, samples) and value of each.
    """
    labels = list(space.by_label)
    rows = [
        [
            [labels.index(str(c)) for _, c in allocation],
            *(*key, value if is_number(value) else None),
        ]
        for allocation, key, value in looks
    ]
    name = LOOKS + ":".join(place)
    known = sum(each.startswith(LOOKS) for each in found)
    kept = kept_under(name, found) or {"at": known, "rows": []}
    rows = kept["rows"] + rows
    return name, {**kept, "budget": place[0], "labels": labels, "rows": rows}


def looks_among(found: Mapping[str, Any], space: Space) -> list[Look]:
    """Budget, allocation, (kind, samples) and value of each look, as they were kept."""
    with all_stays():
        readers = Readers(space)
        return [
            (
                str(kept["budget"]),
                readers.of(kept["labels"]).read(places),
                (str(kind), int(n)),
                None if value is None else float(value),
            )
            for kept in _in_order(found)
            for places, kind, n, value in kept["rows"]
        ]


def _in_order(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was kept, in that order, which no database promises."""
    named = [(kept["at"], n, kept) for n, kept in kept_in(found, LOOKS).items()]
    return [kept for _, _, kept in sorted(named, key=lambda each: each[:2])]
