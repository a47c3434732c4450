"""Random allocations that fill the budget: the baseline every strategy must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.strategies._base import Strategy

if TYPE_CHECKING:
    import numpy as np

    from allocator.core.allocation import Allocation


class Random(Strategy):
    """Draws every group's choice at random, then repairs and fills."""

    def propose(
        self,
        measured: list[tuple[Allocation, float]],
        taken: set[str],
        rng: np.random.Generator,
    ) -> Allocation | None:
        """An allocation whose digest is not in `taken`; None if none is found."""
        del measured
        return self.anything(taken, rng)


PLUGIN = Random
