"""The default: knapsack optima of a cheap prior first, then what trees rank highest.

Trees are a bootstrap of monotone gradient-boosted trees on log2 bits, methods and the
prior's summed damage; the proposal is the candidate of highest mean + spread.
Candidates are mutations of the best measured allocations, of the knapsack optimum under
perturbed damages, and random ones; all keep the budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.strategies._base import Candidate, Known, Strategy
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

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Optima of the prior first, then what trees rank highest."""
        for exponent in EXPONENTS if self.damage else ():
            found = self._optimum(exponent)
            if found.digest not in known.taken:
                return [Candidate(found)]
        pool = self._pool(known, rng)
        if not pool:
            return self.anything(known, rng)
        if len(known.measured) < FEWEST:
            return [Candidate(pool[0])]
        return self._ranked(known, pool)[:count]

    def _optimum(
        self, exponent: float, noise: Mapping[tuple[str, Choice], float] | None = None
    ) -> Allocation:
        assert self.damage is not None
        bent = {
            at: value**exponent * (noise[at] if noise else 1.0)
            for at, value in self.damage.items()
        }
        return knapsack(self.space, bent)

    def _pool(self, known: Known, rng: np.random.Generator) -> list[Allocation]:
        fitting = [(a, s) for a, s in known.measured if self.space.fits(a)]
        fitting.sort(key=lambda pair: -pair[1])
        parents = [allocation for allocation, _ in fitting[:PARENTS]]
        if self.damage:
            for _ in range(PERTURBED):
                noise = {at: float(rng.lognormal(0, 0.7)) for at in self.damage}
                parents.append(self._optimum(1.0, noise))
        parents += [scatter(self.space, rng) for _ in range(PARENTS)]
        each = CANDIDATES // len(parents)
        children = [mutate(self.space, p, rng) for p in parents for _ in range(each)]
        near = (self.space.nearest(a, known.taken) for a in parents + children)
        return list({a.digest: a for a in near if a is not None}.values())

    def _ranked(self, known: Known, pool: list[Allocation]) -> list[Candidate]:
        """Candidates by falling mean + spread."""
        methods = sorted({c.method for c in self.space.choices if c.method})
        damage = None
        if self.damage:
            damage = {(k, c.bits, c.method): v for (k, c), v in self.damage.items()}
        keys = self.space.keys
        trees = MonotoneTrees(seed=self.seed)
        seen = [allocation for allocation, _ in known.measured]
        trees.fit(features(keys, seen, damage, methods), [s for _, s in known.measured])
        mean, spread = trees.predict(features(keys, pool, damage, methods))
        order = np.argsort(-(mean + spread), kind="stable")
        return [Candidate(pool[i], float(mean[i]), float(spread[i])) for i in order]


PLUGIN = Surrogate
