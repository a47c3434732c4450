"""The default: whatever is known decides what is measured next.

From rows of a table nothing but the scores read so far can be learned:
`allocator.strategies._rows` chooses among them. For a model there is a prior, and cheap
looks: `allocator.strategies._proposals` makes candidates of them that keep the budget.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from allocator.strategies._base import Candidate, Known, Strategy
from allocator.strategies._proposals import Proposals
from allocator.strategies._rows import Rows

if TYPE_CHECKING:
    import numpy as np


class Surrogate(Strategy):
    """Ranks feasible candidates by what models learned from all that is known."""

    offspring = 48

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """The most promising candidates; something random where there are none."""
        found = self._source.candidates(known, count, rng)
        return found or self.anything(known, rng)

    @cached_property
    def _source(self) -> Rows | Proposals:
        """Where candidates come from."""
        rows = self.space.rows
        if rows is None:
            return Proposals(self.space, self.seed, self.damage)
        return Rows.of(self.space, rows)


PLUGIN = Surrogate
