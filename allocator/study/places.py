"""Allocations as a study's looks and races are kept: a number for each group."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING

from allocator.core.allocation import Allocation, canonical, digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.space.base import Space


class Places:
    """Reads places among labels, each allocation once: tens of thousands are alike.

    Args:
        space: whose groups they are for.
        labels: the choices' labels that the numbers count.
    """

    def __init__(self, space: Space, labels: Sequence[str]) -> None:
        choices = [space.by_label[label] for label in labels]
        self._pairs = [[(key, choice) for choice in choices] for key in space.keys]
        # in the order in which digests have them
        self._order = sorted(range(len(space.keys)), key=space.keys.__getitem__)
        self._parts = [[canonical(*p) for p in self._pairs[at]] for at in self._order]
        self._known: dict[tuple[int, ...], Allocation] = {}

    def read(self, places: Sequence[int]) -> Allocation:
        """The allocation that has the choice at a place in each group.

        Raises:
            ValueError: there are more or fewer places than groups.
        """
        name = tuple(places)
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._made(name)
        return found

    def _made(self, places: tuple[int, ...]) -> Allocation:
        if len(places) != len(self._pairs):
            raise ValueError(f"{len(places)} places for {len(self._pairs)} groups")
        made = Allocation(tuple(map(getitem, self._pairs, places)))
        ordered = [places[at] for at in self._order]
        # of parts that are known, in a tenth of the time that the allocation takes
        vars(made)["digest"] = digest_of(map(getitem, self._parts, ordered))
        return made


class Readers:
    """A `Places` for each list of labels, of which a study has a few."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._known: dict[tuple[str, ...], Places] = {}

    def of(self, labels: Sequence[str]) -> Places:
        """What reads places among these labels."""
        name = tuple(labels)
        if name not in self._known:
            self._known[name] = Places(self._space, labels)
        return self._known[name]
