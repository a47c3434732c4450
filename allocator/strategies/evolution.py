"""Level switches that keep the budget, from the best allocation known.

EvoPress (Sieberling et al., arXiv 2410.14649): a (1 + lambda) evolution whose offspring
raise the level of one group and lower others to stay inside the budget, a few times.
Many offspring are scored cheaply, few in full, which is for the search's rungs to do.
EvoPress trades layers of one size; here sizes differ, so that what a switch leaves over
is filled. Where there are several methods, a mutation may switch those as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.allocation import FULL
from allocator.strategies._base import PATIENCE, Candidate, Known, Strategy
from allocator.strategies._moves import fill, repair, widen

if TYPE_CHECKING:
    import numpy as np

    from allocator.core.allocation import Allocation, Choice

# of a mutation: the smaller of two draws from 1 to this, as in EvoPress
SWITCHES = 3
# how often a switch is one of methods, where there are several
METHOD_SWITCHES = 0.3


class Evolution(Strategy):
    """Mutates the best measured allocation that fits."""

    offspring = 16

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Offspring of the parent; the parent itself if it was never measured."""
        parent, taken = self._parent(known), set(known.taken)
        first = None if known.measured else self.space.nearest(parent, taken)
        found = [] if first is None else [Candidate(first)]
        taken.update(each.allocation.digest for each in found)
        for _ in range(PATIENCE):
            if len(found) >= count:
                break
            child = self.space.nearest(self._child(parent, rng), taken)
            if child is not None:
                found.append(Candidate(child))
                taken.add(child.digest)
        return found or self.anything(known, rng)

    def _parent(self, known: Known) -> Allocation:
        """The best that fits; before anything is measured the widest uniform one."""
        fitting = [(a, s) for a, s in known.measured if self.space.fits(a)]
        if fitting:
            return max(fitting, key=lambda pair: pair[1])[0]
        uniform = [a for a in self.space.uniform if self.space.fits(a)]
        return uniform[-1] if uniform else self.space.smallest

    def _child(self, parent: Allocation, rng: np.random.Generator) -> Allocation:
        """The parent after a few switches."""
        child = parent
        for _ in range(rng.integers(1, SWITCHES + 1, size=2).min()):
            methods = self._other_methods(child)
            if methods and rng.random() < METHOD_SWITCHES:
                key, choice = methods[rng.integers(len(methods))]
                child = child.replace({key: choice})
            else:
                child = self._switched(child, rng)
        return fill(self.space, child, rng)

    def _other_methods(self, allocation: Allocation) -> list[tuple[str, Choice]]:
        """Other methods of the same width that groups could get."""
        return [
            (key, choice)
            for key, own in allocation
            if own.bits != FULL
            for choice in self.space.by_width.get(own.bits, ())
            if choice != own
        ]

    def _switched(self, allocation: Allocation, rng: np.random.Generator) -> Allocation:
        """One group a level up, others down until the budget is kept again."""
        widest = self.space.widths[-1]
        narrow = [key for key, own in allocation if own.bits < widest]
        if not narrow:
            return allocation
        key = narrow[rng.integers(len(narrow))]
        raised = allocation.replace({key: widen(self.space, allocation[key])})
        return repair(self.space, raised, rng, spared=key)


PLUGIN = Evolution
