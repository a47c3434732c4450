"""Which allocation to look at next, where everything that fits can be measured.

Optima of the prior come first. Later, candidates are the best that were only looked at
so far, mutations of the best known allocations, and the prior's optima under perturbed
damages; new ones are ranked by a bootstrap of monotone gradient-boosted trees on log2
bits, methods and the prior's summed damage: mean + spread of the score they predict.
Cheap looks teach the trees as well as full measurements do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.strategies._base import Candidate
from allocator.strategies._moves import knapsack, mutate, scatter
from surrogate.features import features
from surrogate.model import MonotoneTrees

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice
    from allocator.space import Space
    from allocator.strategies._base import Known

    Array = NDArray[np.float64]
    Damage = Mapping[tuple[str, Choice], float]

# damages do not add up exactly: their optima under other exponents differ usefully
EXPONENTS = (1.0, 0.7, 0.5, 1.4)
# perturbed optima where little is known, and where enough is: spread of the noise's log
PERTURBED, LATER, NOISE = 16, 4, 0.7
# allocations looked at from which on the trees know more than the prior
ENOUGH = 100
# parents among measured and looked at, random ones; children of all together
MEASURED, LOOKED, RANDOM = 4, 8, 2
CHILDREN = 160
# of those looked at, so many may be measured next
AGAIN = 6
FEWEST = 4  # scores known before trees are asked
# part of the range of losses below which they are no longer told apart
FLOOR = 0.01


class Proposals:
    """Candidates for a space, from a prior and from what is known."""

    def __init__(self, space: Space, seed: int, damage: Damage | None) -> None:
        self.space = space
        self.seed = seed
        self.damage = damage

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Up to `count` new allocations, best first, and some looked at before."""
        looked = self._fitting(known.estimated, known)
        seen = known.taken | {allocation.digest for allocation in looked}
        optima = [a for a in self._optima() if a.digest not in seen]
        if count == 1 and optima:
            return [Candidate(optima[0])]
        perturbed = self._perturbed(len(known.estimated), rng)
        parents = [
            *self._fitting(known.measured)[:MEASURED],
            *looked[:LOOKED],
            *perturbed,
            *(scatter(self.space, rng) for _ in range(RANDOM)),
        ]
        each = -(-CHILDREN // len(parents))
        pool = perturbed + [
            mutate(self.space, parent, rng) for parent in parents for _ in range(each)
        ]
        fresh = {a.digest: a for a in pool if self.space.nearest(a, seen) is not None}
        new = self._ranked(known, list(fresh.values()))
        again = [Candidate(a) for a in looked[: min(AGAIN, count - 1)]]
        first = [Candidate(a) for a in optima]
        return _distinct([*again, *first, *new])[:count]

    def _optima(self) -> list[Allocation]:
        if self.damage is None:
            return []
        return [
            knapsack(self.space, {at: v**exponent for at, v in self.damage.items()})
            for exponent in EXPONENTS
        ]

    def _perturbed(self, looked: int, rng: np.random.Generator) -> list[Allocation]:
        """Optima of the prior under noise; random allocations without one."""
        count = PERTURBED if looked < ENOUGH else LATER
        if self.damage is None:
            return [scatter(self.space, rng) for _ in range(count)]
        found = []
        for _ in range(count):
            noise = rng.lognormal(0, NOISE, len(self.damage))
            noisy = zip(self.damage.items(), noise, strict=True)
            found.append(knapsack(self.space, {at: v * n for (at, v), n in noisy}))
        return found

    def _fitting(
        self,
        scored: tuple[tuple[Allocation, float], ...],
        known: Known | None = None,
    ) -> list[Allocation]:
        """What fits and is not taken, by falling score."""
        taken = known.taken if known else frozenset()
        fitting = [
            pair
            for pair in scored
            if pair[0].digest not in taken and self.space.fits(pair[0])
        ]
        return [a for a, _ in sorted(fitting, key=lambda pair: -pair[1])]

    def _ranked(self, known: Known, pool: list[Allocation]) -> list[Candidate]:
        """By falling mean + spread of what trees predict; as they are without trees."""
        scored = known.measured + known.estimated
        if len(scored) < FEWEST or not pool:
            return [Candidate(allocation) for allocation in pool]
        methods = sorted({c.method for c in self.space.choices if c.method})
        damage = None
        if self.damage:
            damage = {(k, c.bits, c.method): v for (k, c), v in self.damage.items()}
        keys, (allocations, scores) = self.space.keys, zip(*scored, strict=True)
        target, back = _told_apart(np.array(scores))
        trees = MonotoneTrees(seed=self.seed, n_members=8, rounds=40, rate=0.15)
        trees.fit(features(keys, allocations, damage, methods), target)
        mean, spread = trees.predict(features(keys, pool, damage, methods))
        order = np.argsort(-(mean + spread), kind="stable")
        return [
            Candidate(pool[i], back(mean[i]), back(mean[i] + spread[i]) - back(mean[i]))
            for i in order
        ]


def _told_apart(scores: Array) -> tuple[Array, Callable[[float], float]]:
    """Scores on a scale that tells the best of them apart, and the way back.

    Minus the logarithm of what is lost to the best one: most of what was looked at is
    far worse than what is looked for.
    """
    top = float(scores.max())
    floor = FLOOR * float(np.ptp(scores)) or 1.0
    return -np.log((top - scores) + floor), lambda t: top + floor - float(np.exp(-t))


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    """The first of equal allocations."""
    return list({c.allocation.digest: c for c in reversed(candidates)}.values())[::-1]
