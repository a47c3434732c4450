"""Level switches that keep the budget, from the best allocation known.

EvoPress (Sieberling et al., arXiv 2410.14649): a (1 + lambda) evolution whose offspring
raise the level of one group and lower others to stay inside the budget, a few times.
Many offspring are scored cheaply, few in full, which is for the search's rungs to do.
EvoPress trades layers of one size; here sizes differ, so that what a switch leaves over
is filled. Where there are several methods, a mutation may switch those as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.strategies._base import PATIENCE, Candidate, Known, Strategy
from allocator.strategies._moves import switch

if TYPE_CHECKING:
    import numpy as np

    from allocator.core.allocation import Allocation


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
            child = self.space.nearest(switch(self.space, parent, rng), taken)
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


PLUGIN = Evolution
