"""The default: knapsack optima of a cheap prior first, then what trees rank highest.

Trees are a bootstrap of monotone gradient-boosted trees on log2 bits, methods and the
prior's summed damage; the proposal is the candidate of highest mean + spread.
Candidates are mutations of the best measured allocations, of the knapsack optimum under
perturbed damages, and random ones; all keep the budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.strategies._base import Strategy
from allocator.strategies._moves import knapsack, mutate, scatter
from surrogate.features import features
from surrogate.model import MonotoneTrees

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.allocation import Allocation, Choice

PARENTS = 6
CANDIDATES = 240
# damages do not add up exactly: their optima under other exponents differ usefully
EXPONENTS = (1.0, 0.7, 0.5, 1.4)
PERTURBED = 12
FEWEST = 4  # measured allocations before trees are asked


class Surrogate(Strategy):
    """Ranks feasible candidates by what trees learned from the measured ones."""

    def propose(
        self,
        measured: list[tuple[Allocation, float]],
        taken: set[str],
        rng: np.random.Generator,
    ) -> Allocation | None:
        """An allocation whose digest is not in `taken`; None if none is found."""
        for exponent in EXPONENTS if self.damage else ():
            found = self._optimum(exponent)
            if found.digest not in taken:
                return found
        pool = self._candidates(measured, rng)
        fresh = list({c.digest: c for c in pool if c.digest not in taken}.values())
        if not fresh:
            return self.anything(taken, rng)
        if len(measured) < FEWEST:
            return fresh[0]
        return fresh[self._best(measured, fresh)]

    def _optimum(
        self, exponent: float, noise: Mapping[tuple[str, Choice], float] | None = None
    ) -> Allocation:
        assert self.damage is not None
        bent = {
            at: value**exponent * (noise[at] if noise else 1.0)
            for at, value in self.damage.items()
        }
        return knapsack(self.space, bent)

    def _candidates(
        self, measured: list[tuple[Allocation, float]], rng: np.random.Generator
    ) -> list[Allocation]:
        fitting = [(a, s) for a, s in measured if self.space.fits(a)]
        fitting.sort(key=lambda pair: -pair[1])
        parents = [allocation for allocation, _ in fitting[:PARENTS]]
        if self.damage:
            for _ in range(PERTURBED):
                noise = {at: float(rng.lognormal(0, 0.7)) for at in self.damage}
                parents.append(self._optimum(1.0, noise))
        parents += [scatter(self.space, rng) for _ in range(PARENTS)]
        each = CANDIDATES // len(parents)
        children = [mutate(self.space, p, rng) for p in parents for _ in range(each)]
        return parents + children

    def _best(
        self, measured: list[tuple[Allocation, float]], fresh: list[Allocation]
    ) -> int:
        """Index of the candidate with the highest mean + spread."""
        known = [allocation for allocation, _ in measured]
        methods = sorted({c.method for c in self.space.choices if c.method})
        damage = None
        if self.damage:
            damage = {(k, c.bits, c.method): v for (k, c), v in self.damage.items()}
        keys = self.space.keys
        trees = MonotoneTrees(seed=self.seed)
        trees.fit(features(keys, known, damage, methods), [s for _, s in measured])
        mean, spread = trees.predict(features(keys, fresh, damage, methods))
        return int(np.argmax(mean + spread))


PLUGIN = Surrogate
