"""Which allocations to look at next, where everything that fits can be measured.

Optima of the prior come first. Later, half of the candidates are level switches of the
best one measured, as they come. The others are the best that were only looked at so
far, level switches of the best known allocations, and the prior's optima under
perturbed damages: these are ranked by a bootstrap of monotone gradient-boosted trees on
log2 bits, methods and the prior's summed damage: mean + spread of the score they
predict. Cheap looks teach the trees as well as full measurements do.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from allocator.strategies._base import Candidate
from allocator.strategies._moves import knapsack, scatter, switch
from surrogate.features import Features, features
from surrogate.model import MonotoneTrees

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space
    from allocator.strategies._base import Known

    Array = NDArray[np.float64]
    Damage = Mapping[tuple[str, Choice], float]

# damages do not add up exactly: their optima under other exponents differ usefully
EXPONENTS = (1.0, 0.7, 0.5, 1.4)
# perturbed optima where little is known, and where enough is: spread of the noise's log
PERTURBED, LATER, NOISE = 16, 2, 0.7
# allocations looked at from which on the trees know more than the prior
ENOUGH = 100
# parents among measured and looked at; children of all parents together
MEASURED, LOOKED = 3, 4
CHILDREN = 160
# of those looked at, so many may be measured next
AGAIN = 3
FEWEST = 4  # scores known before trees are asked
# part of the range of losses below which they are no longer told apart
FLOOR = 0.01


class Proposals:
    """Candidates for a space, from a prior and from what is known."""

    def __init__(self, space: Space, seed: int, damage: Damage | None) -> None:
        self.space = space
        self.seed = seed
        self.damage = damage
        self._rows: dict[str, Features] = {}

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Up to `count`: what was looked at before, optima of the prior, new ones."""
        known = imagined(known)
        looked = self._best(known.estimated, known.taken)
        seen = known.taken | {allocation.digest for allocation, _ in known.estimated}
        optima = [a for a in self._optima if a.digest not in seen]
        if count == 1 and optima:
            return [Candidate(optima[0])]
        perturbed = self._perturbed(len(known.estimated), rng)
        parents = [
            *self._best(known.measured)[:MEASURED],
            *looked[:LOOKED],
            *perturbed,
        ]
        each = -(-CHILDREN // len(parents))
        pool = perturbed + [
            switch(self.space, parent, rng) for parent in parents for _ in range(each)
        ]
        fresh = {a.digest: a for a in pool if self.space.nearest(a, seen) is not None}
        first = [*looked[: min(AGAIN, count - 1)], *optima]
        first += self._near_best(known, seen, count // 2, rng)
        told = [Candidate(allocation) for allocation in first]
        return _distinct([*told, *self._ranked(known, list(fresh.values()))])[:count]

    @cached_property
    def _optima(self) -> list[Allocation]:
        """Optima of the prior."""
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

    def _near_best(
        self, known: Known, seen: Collection[str], count: int, rng: np.random.Generator
    ) -> list[Allocation]:
        """Level switches of the best one measured, as they come.

        Trees agree with the looks they learned from; the score may not.
        """
        found: dict[str, Allocation] = {}
        for best in self._best(known.measured)[:1]:
            for _ in range(2 * count):
                child = self.space.nearest(switch(self.space, best, rng), seen)
                if child is not None and len(found) < count:
                    found[child.digest] = child
        return list(found.values())

    def _best(
        self,
        scored: Iterable[tuple[Allocation, float]],
        taken: frozenset[str] = frozenset(),
    ) -> list[Allocation]:
        """What fits and is not taken, by falling score."""
        fitting = [
            pair
            for pair in scored
            if pair[0].digest not in taken and self.space.fits(pair[0])
        ]
        return [a for a, _ in sorted(fitting, key=lambda pair: -pair[1])]

    def _ranked(self, known: Known, pool: list[Allocation]) -> list[Candidate]:
        """By falling mean + spread of what trees predict; as they are without trees."""
        told = known.estimated or known.measured
        if len(told) < FEWEST or not pool:
            return [Candidate(allocation) for allocation in pool]
        allocations, scores = zip(*told, strict=True)
        target, back = _told_apart(np.array(scores))
        trees = MonotoneTrees(seed=self.seed, n_members=8, rounds=40, rate=0.15)
        trees.fit(self._features(allocations), target)
        mean, spread = trees.predict(self._features(pool))
        order = np.argsort(-(mean + spread), kind="stable")
        return [
            Candidate(pool[i], back(mean[i]), back(mean[i] + spread[i]) - back(mean[i]))
            for i in order
        ]

    def _features(self, allocations: Sequence[Allocation]) -> Features:
        """Rows of the trees' table, made once for each allocation."""
        digests = [allocation.digest for allocation in allocations]
        missing = {
            digest: allocation
            for digest, allocation in zip(digests, allocations, strict=True)
            if digest not in self._rows
        }
        if missing:
            methods = sorted({c.method for c in self.space.choices if c.method})
            damage = None
            if self.damage:
                damage = {(k, c.bits, c.method): v for (k, c), v in self.damage.items()}
            made = features(self.space.keys, list(missing.values()), damage, methods)
            for digest, row in zip(missing, made.matrix, strict=True):
                self._rows[digest] = Features(made.names, row, made.monotone)
        rows = [self._rows[digest] for digest in digests]
        matrix = np.array([row.matrix for row in rows])
        return Features(rows[0].names, matrix, rows[0].monotone)


def imagined(known: Known) -> Known:
    """The same as if what is pending had the mean score of what is known.

    A constant liar (Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to
    parallelize optimization", 2010): trees are less curious about what lies near. With
    16 proposals at once searches found less where trees were told nothing, or the least
    score; with fewer, being told nothing did as well (studies/search). Nothing changes
    where no score is known.
    """
    told = known.estimated or known.measured
    if not told or not known.pending:
        return known
    mean = float(np.mean([score for _, score in told]))
    own = (*told, *((allocation, mean) for allocation in known.pending))
    if known.estimated:
        return replace(known, estimated=own)
    return replace(known, measured=own)


def _told_apart(scores: Array) -> tuple[Array, Callable[[float], float]]:
    """Scores on a scale that tells the best of them apart, and the way back.

    Minus the logarithm of what is lost to the best one: most of what was looked at is
    far worse than what is looked for.
    """
    top = float(scores.max())
    floor = FLOOR * float(np.ptp(scores)) or 1.0
    return -np.log((top - scores) + floor), lambda t: top + floor - float(np.exp(-t))


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first of equal allocations."""
    found: dict[str, Candidate] = {}
    for each in candidates:
        found.setdefault(each.allocation.digest, each)
    return list(found.values())
