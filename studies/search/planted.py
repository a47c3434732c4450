"""A planted model: LLaVA-1.5-7B's groups and sizes, losses drawn, looks that err.

Nothing is loaded: an allocation's divergence is the sum of its groups' damages, each
times a factor for neighbours that are hurt too, and its score falls with it. Looks on
few samples err by what is found on the embedded models (ranks of one budget: 0.85 to
0.97 on 128 samples); the prior knows single groups, with an error, and no neighbours.
Everything is a function of a seed and of the allocation, whoever asks first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.allocation import FULL
from allocator.core.study import StudySpec
from allocator.families import family_of
from allocator.search.rungs import Rungs
from allocator.space.model import ModelSpace
from allocator.study.looks import DIVERGENCE

if TYPE_CHECKING:
    from allocator.core.allocation import Allocation, Choice

CONFIG = Path(__file__).parents[1] / "scale" / "configs" / "llava-1.5-7b-hf"
# a bit divides a damage by this much, as squared steps do; spread of logarithms of the
# groups' sensitivities, of a method's effect on a group, and of the prior's error
BASE, GROUPS, METHODS, PRIOR = 4.0, 1.0, 0.35, 0.35
OF_METHOD = {"gptq": 0.55, "awq": 0.7, "uniform": 1.0}
# how much a neighbour's damage adds, and points lost to a divergence of 1
TOGETHER, POINTS = 3.0, 40.0
# spread of a look's logarithm by samples; points of noise of one sample's score
ERRORS = {32: 0.22, 128: 0.11}
NOISE = 12.0
FULL_SCORE, FEW = 80.0, 256
# the divergence of all groups together at 4 bits by rounding
LEVEL = 0.12


@dataclass(frozen=True)
class Planted:
    """One drawing of losses under a budget in bits per weight."""

    budget: float
    seed: int
    scores: dict[str, float] = field(default_factory=dict, compare=False)

    @cached_property
    def space(self) -> ModelSpace:
        """Groups of LLaVA-1.5-7B, three methods at six widths."""
        asked = StudySpec(f"{self.budget}", "vqav2", model=str(CONFIG))
        spec = family_of(CONFIG).spec(CONFIG)
        return ModelSpace(spec, asked.scheme, asked.choices, asked.limit, asked.pins)

    @cached_property
    def losses(self) -> dict[tuple[str, Choice], float]:
        """The damage of each group at each choice, alone."""
        rng = np.random.default_rng([self.seed, 0])
        found: dict[tuple[str, Choice], float] = {}
        for group in self.space.spec.groups:
            weights = sum(linear.weights for linear in group.linears)
            own = (weights / self.space.spec.weights) ** 0.5 * rng.lognormal(0, GROUPS)
            by_method = {name: rng.lognormal(0, METHODS) for name in OF_METHOD}
            for choice in self.space.choices:
                name = choice.method or "uniform"
                level = OF_METHOD[name] * by_method[name] * BASE ** (4 - choice.bits)
                found[group.key, choice] = own * level * (choice.bits < FULL)
        four = [
            v for (_, c), v in found.items() if (c.bits, c.method) == (4, "uniform")
        ]
        return {at: LEVEL * value / sum(four) for at, value in found.items()}

    @cached_property
    def damage(self) -> dict[tuple[str, Choice], float]:
        """The prior: damages of single groups, with an error each."""
        rng = np.random.default_rng([self.seed, 1])
        return {at: v * rng.lognormal(0, PRIOR) for at, v in self.losses.items()}

    def divergence(self, allocation: Allocation) -> float:
        """What the whole calibration of the world would show."""
        own = np.array([self.losses[at] for at in allocation])
        beside = np.zeros(len(own))
        beside[1:] += own[:-1]
        beside[:-1] += own[1:]
        return float((own * (1 + TOGETHER * np.sqrt(beside))).sum())

    def score(self, allocation: Allocation, samples: int = 1_000) -> float:
        """Mean score of so many samples of the search set, FEW or more."""
        key = f"{allocation.digest} {samples}"
        if key not in self.scores:
            lost = POINTS * (1 - np.exp(-(self.divergence(allocation) ** 0.7)))
            few, rest = self._normal(allocation, "score", 2)
            # sums over the first samples, and over those behind them
            noise = few * FEW**0.5
            if samples > FEW:
                noise += rest * (samples - FEW) ** 0.5
            self.scores[key] = float(FULL_SCORE - lost + NOISE * noise / samples)
        return self.scores[key]

    def look(self, allocation: Allocation, kind: str, size: int) -> float:
        """A cheap look."""
        if kind != DIVERGENCE:
            return self.score(allocation, size)
        error = ERRORS[size] * self._normal(allocation, f"{kind} {size}", 1)[0]
        return float(self.divergence(allocation) * np.exp(error))

    def _normal(self, allocation: Allocation, what: str, count: int) -> list[float]:
        name = f"{self.seed} {what} {allocation.digest}".encode()
        rng = np.random.default_rng(list(hashlib.sha256(name).digest()[:16]))
        found: list[float] = rng.normal(size=count).tolist()
        return found


class Trusted(Rungs):
    """Rungs over a planted model whose divergence is always trusted."""

    def trusts(self) -> bool:
        """It predicts by construction."""
        return True


def rungs_of(world: Planted) -> Trusted:
    """Rungs that look at a planted model."""
    found = Trusted(
        lambda a, kind, size, _: world.look(a, kind, size), lambda a: a.digest
    )
    found.total = 1_000
    return found
