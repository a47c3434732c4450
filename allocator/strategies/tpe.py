"""Optuna's tree-structured Parzen estimator, kept inside the budget.

Bergstra et al., "Algorithms for hyper-parameter optimization" (2011), in Optuna's
multivariate form with constraints (Watanabe and Hutter, arXiv 2211.14411). It learns
from everything measured, what is over the budget counting as infeasible; its proposals
are narrowed to the budget and filled up to it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from optuna.samplers import TPESampler

from allocator.strategies._base import Candidate, Known, Strategy
from allocator.strategies._scratch import Levels, proposals

if TYPE_CHECKING:
    import numpy as np


class Tpe(Strategy):
    """Asks Optuna's TPE, with widths as ordered levels."""

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """TPE's proposals; random ones until it has ten measurements, as it does."""
        levels = Levels(self.space)
        seed = int(rng.integers(2**31))
        sampler = TPESampler(multivariate=True, seed=seed)
        study = levels.study(known, sampler)
        found = islice(proposals(levels, study, known, rng), count)
        return [Candidate(each) for each in found] or self.anything(known, rng)


PLUGIN = Tpe
