"""Growing parts of an evaluation set, each a fair sample of it, in one seeded order."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

# samples of the first part: a quarter of all, or, where that is more, from these on;
# fewer than the least say nothing
FIRST, SHARE, LEAST = 1_000, 4, 250


@dataclass(frozen=True)
class Subsets:
    """Nested parts of a set: places of its samples in an order, cut at some sizes.

    `order` has every place once, `sizes` rise to that of the whole set.
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def total(self) -> int:
        """Samples of the whole set."""
        return len(self.order)

    def places(self, size: int, known: int = 0) -> tuple[int, ...]:
        """Places of the first so many, without those `known`, as the set has them."""
        if (size, known) not in self._places:
            self._places[size, known] = tuple(sorted(self.order[known:size]))
        return self._places[size, known]

    @cached_property
    def _places(self) -> dict[tuple[int, int], tuple[int, ...]]:
        return {}

    @staticmethod
    def whole(total: int) -> Subsets:
        """One part alone, which is everything."""
        return Subsets(tuple(range(total)), (total,))

    @staticmethod
    def of(
        pictures: Sequence[Hashable], strata: Sequence[int] = (), seed: int = 0
    ) -> Subsets:
        """Parts that double in size, up to the whole.

        What shares a picture shares work and stays together. Each part holds as much of
        every stratum as the whole set does, but for a picture.

        Args:
            pictures: of each sample.
            strata: sizes of parts of the set that stand one behind the other.
            seed: of the order.
        """
        total = len(pictures)
        order, ends = [], []
        for picture in _in_turn(_shuffled(pictures, strata or (total,), seed)):
            order += picture
            ends.append(len(order))
        least, size, sizes = max(LEAST, min(FIRST, total / SHARE)), total / 2, {total}
        while size >= least:
            sizes.add(ends[bisect_left(ends, size)])
            size /= 2
        return Subsets(tuple(order), tuple(sorted(sizes)))


def _shuffled(
    pictures: Sequence[Hashable], strata: Sequence[int], seed: int
) -> list[list[list[int]]]:
    """Places of the pictures of each stratum, at random."""
    random, start, found = Random(seed), 0, []
    for size in strata:
        places: dict[Hashable, list[int]] = {}
        for place in range(start, start + size):
            places.setdefault(pictures[place], []).append(place)
        own = list(places.values())
        random.shuffle(own)
        found.append(own)
        start += size
    return found


def _in_turn(strata: Sequence[Sequence[list[int]]]) -> Iterable[list[int]]:
    """Pictures of all strata, the one next of which the smallest share was taken."""
    sizes = [sum(map(len, own)) for own in strata]
    taken, at = [0] * len(strata), [0] * len(strata)
    while left := [n for n, own in enumerate(strata) if at[n] < len(own)]:
        one = min(left, key=lambda n: taken[n] / sizes[n])
        picture = strata[one][at[one]]
        taken[one] += len(picture)
        at[one] += 1
        yield picture
