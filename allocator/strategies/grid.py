"""An even sweep: whole components first, then single groups.

What studies do that sweep widths by component (as arXiv 2601.15287 does for BLIP-2 and
LLaVA): every combination of a width for each component, by one method throughout, those
first that no other that fits is wider than, fullest first; then the rest, fullest
first; then each of these with one group changed, fullest first. Of a table, all rows
that fit, in the order of the combinations. Nothing is learned from scores.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from allocator.space.base import of_method
from allocator.strategies._base import Candidate, Known, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice

# combinations of widths before components are no longer told apart
MOST = 200_000


class Grid(Strategy):
    """Walks down a list that is fixed beforehand."""

    seeded = False

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """The next of the sweep; anything that is left when it is through."""
        taken, found = set(known.taken), list[Candidate]()
        for allocation in self._sweep():
            if len(found) == count:
                break
            free = self.space.nearest(allocation, taken)
            if free is not None:
                found.append(Candidate(free))
                taken.add(free.digest)
        return found or self.anything(known, rng)

    def _sweep(self) -> Iterator[Allocation]:
        """Whole components, then each of these with one group changed."""
        space = self.space
        if space.rows is not None:
            yield from self._ordered_rows
            return
        yield from self._coarse
        for allocation in self._coarse:
            cells = itertools.product(space.keys, space.choices)
            changed = [allocation.replace({key: choice}) for key, choice in cells]
            yield from sorted(filter(space.fits, changed), key=space.bytes)[::-1]

    @cached_property
    def _ordered_rows(self) -> list[Allocation]:
        """All rows of a table that fit: the widest first, then by falling size."""
        rows = list(self.space.rows or ())
        bits = np.array([[choice.bits for _, choice in row] for row in rows])
        order = sorted(
            range(len(rows)),
            key=lambda at: (not _is_widest(bits, at), -self.space.bytes(rows[at])),
        )
        return [rows[at] for at in order]

    @cached_property
    def _coarse(self) -> list[Allocation]:
        """A width for each component, in order, by each method in turn."""
        space = self.space
        sizes = [
            [sum(space.group_bytes[key][bits] for key, bits in step) for step in steps]
            for steps in self._steps
        ]
        totals = np.zeros(())
        for size in sizes:
            totals = totals[..., None] + np.array(size, dtype=float)
        fitting = totals <= space.room
        widest = fitting.copy()
        for axis in range(totals.ndim):
            wider = np.roll(fitting, -1, axis)
            # the widest of all is followed by nothing
            np.moveaxis(wider, axis, 0)[-1] = False
            widest &= ~wider
        found = np.argwhere(fitting)
        order = np.lexsort((-totals[fitting], ~widest[fitting]))
        methods = sorted({c.method for c in space.choices if c.method}) or [""]
        return [
            self._alike(found[at].tolist(), method)
            for at, method in itertools.product(order, methods)
        ]

    def _alike(self, levels: list[int], method: str) -> Allocation:
        """A width for each component, by one method where that has it."""
        picks: dict[str, Choice] = {}
        for level, steps in zip(levels, self._steps, strict=True):
            for key, bits in steps[level]:
                picks[key] = of_method(self.space.levels[key][bits], method)
        return self.space.smallest.replace(picks)

    @cached_property
    def _steps(self) -> list[list[tuple[tuple[str, int], ...]]]:
        """For each component its widths, as the width of each of its groups.

        Groups that may not get a width have the nearest they may.
        """
        space = self.space
        found = []
        for keys in self._components:
            rows = (
                tuple((key, _nearest(space.levels[key], bits)) for key in keys)
                for bits in space.widths
            )
            found.append(list(dict.fromkeys(rows)))
        return found

    @property
    def _components(self) -> list[list[str]]:
        """Groups by component; all together where the components are too many."""
        members: dict[str, list[str]] = {}
        for key in self.space.keys:
            members.setdefault(key.split(".")[0], []).append(key)
        many = len(self.space.widths) ** len(members) > MOST
        return [list(self.space.keys)] if many else list(members.values())


def _nearest(widths: Iterable[int], bits: int) -> int:
    return min(widths, key=lambda width: abs(width - bits))


def _is_widest(bits: NDArray[np.int64], at: int) -> bool:
    """Whether no other row is at least as wide everywhere, and wider somewhere."""
    wider = (bits >= bits[at]).all(axis=1) & (bits > bits[at]).any(axis=1)
    return not wider.any()


PLUGIN = Grid
