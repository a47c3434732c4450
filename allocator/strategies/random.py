"""Random allocations that fill the budget: the baseline every strategy must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.strategies._base import Candidate, Known, Strategy

if TYPE_CHECKING:
    import numpy as np


class Random(Strategy):
    """Draws every group's choice at random, then repairs and fills."""

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """One allocation; none where nothing new is left."""
        del count
        return self.anything(known, rng)


PLUGIN = Random
