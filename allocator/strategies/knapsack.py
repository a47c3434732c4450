"""Additive scores alone: the exact knapsack optimum, then the next best, and so on.

This is how HAWQ (arXiv 1911.03852; HAWQ-V3, arXiv 2011.10680), NVIDIA ModelOpt's
`auto_quantize` and AutoRound's `AutoScheme` allocate: each group has a loss for each
choice, losses add up, and an integer program takes the least sum that keeps the budget.

Where single groups were never measured, losses are estimated from whole allocations:
each group's noise falls by `BASE` for each bit, from a level of its own that is fitted
to the scores (non-negative least squares, drawn towards factors in proportion to the
group's size while little is measured), anew after each measurement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.core.allocation import FULL
from allocator.strategies._base import Candidate, Known, Strategy
from allocator.strategies._knapsack import least

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice

    Floats = NDArray[np.float64]
    Damage = dict[tuple[str, Choice], float]

# a bit halves the step of a grid and quarters the power of its noise, but a score drops
# less than in proportion where it drops far: of 2, 3, 4 and 6, 3 served best on
# published tables of captioning
BASE = 3.0
# weight of the sizes, in measurements
PRIOR = 0.1
SWEEPS = 200


class Knapsack(Strategy):
    """Proposes allocations by rising summed damage."""

    seeded = False

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """The allocations of least summed damage that are not taken."""
        del rng
        damage = self.damage or self.estimate(known)
        taken, found = set(known.taken), list[Candidate]()
        told = [a for a, _ in (*known.measured, *known.estimated)]
        past = [a for a in told if a.digest in taken and self.space.fits(a)]
        while len(found) < count:
            next_ = least(self.space, damage, past, taken)
            if next_ is None:
                break
            found.append(Candidate(next_))
            taken.add(next_.digest)
            past.append(next_)
        return found

    def estimate(self, known: Known) -> Damage:
        """Losses of single groups, from the scores of whole allocations."""
        space = self.space
        sizes = np.array([space.group_bytes[key][FULL] for key in space.keys], float)
        shares = sizes / sizes.sum()
        methods = sorted({c.method for c in space.choices if c.method})
        weights = _fit(
            np.array([self._noise(a, shares, methods) for a, _ in known.measured]),
            np.array([score for _, score in known.measured]),
            np.concatenate([shares, np.zeros(len(methods))]),
        )
        own, by_method = weights[: len(shares)], weights[len(shares) :]
        of_method = dict(zip(methods, by_method, strict=True))
        return {
            (key, choice): _noise(choice)
            * (weight + share * of_method.get(choice.method or "", 0.0))
            for key, weight, share in zip(space.keys, own, shares, strict=True)
            for choice in space.allowed[key]
        }

    def _noise(
        self, allocation: Allocation, shares: Floats, methods: list[str]
    ) -> Floats:
        """Noise of each group, and of each method over all of its groups."""
        noise = np.array([_noise(choice) for _, choice in allocation])
        used = [[c.method == method for _, c in allocation] for method in methods]
        by_method = [float((noise * shares)[own].sum()) for own in used]
        return np.concatenate([noise, by_method])


def _noise(choice: Choice) -> float:
    """Relative power of the noise of a choice."""
    return 0.0 if choice.bits == FULL else BASE**-choice.bits


def _fit(noise: Floats, scores: Floats, sizes: Floats) -> Floats:
    """Non-negative weights of noises [measured, columns] that explain lost scores.

    Ridge regression around weights in proportion to the sizes, by coordinate descent.
    """
    if len(scores) < 2 or np.ptp(scores) == 0:
        return sizes
    x, lost = noise - noise.mean(axis=0), scores.mean() - scores
    along = x @ sizes
    level = max(float(along @ lost) / max(float(along @ along), 1e-300), 0.0)
    around = level * sizes
    gram, rest = x.T @ x, x.T @ (lost - x @ around)
    ridge = PRIOR * float(np.trace(gram)) / len(gram)
    ridge = max(ridge / len(scores), 1e-300)
    weights = around.copy()
    for _ in range(SWEEPS):
        for k in range(len(weights)):
            step = (
                rest[k]
                - gram[k] @ (weights - around)
                - ridge * (weights[k] - around[k])
            )
            weights[k] = max(0.0, weights[k] + step / (gram[k, k] + ridge))
    return weights if weights.any() else sizes


PLUGIN = Knapsack
