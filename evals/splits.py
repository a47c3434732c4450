"""Calibration, search and evaluation samples never meet."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from allocator.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Sample


def spread_places(total: int, count: int) -> list[int]:
    """Places of `count` evenly spaced ones of `total`; all where there are no more.

    >>> spread_places(10, 4)
    [0, 2, 5, 7]
    """
    return (
        [place * total // count for place in range(count)]
        if count < total
        else [*range(total)]
    )


def check_disjoint(**splits: Sequence[Sample]) -> None:
    """Make sure that no two splits share a sample or an image.

    Args:
        splits: samples of each split, by its name.

    Raises:
        DataError: names two splits and an id or image that both contain.
    """
    ids = {name: {sample.id for sample in part} for name, part in splits.items()}
    images = {
        name: {str(sample.image) for sample in part} for name, part in splits.items()
    }
    _refuse_shared("sample", ids)
    _refuse_shared("image", images)


def _refuse_shared(kind: str, members: dict[str, set[str]]) -> None:
    for first, second in combinations(members, 2):
        shared = members[first] & members[second]
        if shared:
            raise DataError(
                f"{first} and {second} samples must have nothing in common, but share "
                f"{len(shared)} {kind}(s), such as {min(shared)}"
            )
