"""Random knapsacks, and a solver of others to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import block_diag, csc_array, csr_array, vstack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

KINDS = ("spread", "equal", "noisy", "alike", "random", "strong", "sum")
LOW = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Drawn:
    """Costs and losses of the choices of each class, and the room."""

    costs: list[Floats]
    losses: list[Floats]
    room: float


def draw(kind: str, classes: int, seed: int, methods: int = 3) -> Drawn:
    """Layers of random sizes at six widths by some methods, and at 16 bits.

    Losses fall by a quarter for each bit and spread over eight decades ("spread"; all
    layers of one size: "equal"), over two with noise of their own ("noisy"), are in
    proportion to the size ("alike"), follow nothing ("random"), or hardly differ but by
    what they cost ("strong"), or not at all ("sum").
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    bits = np.array([*np.repeat(LOW, methods), 16])
    costs, losses = [], []
    for _ in range(classes):
        weights = float(rng.integers(64, 5000) * rng.integers(64, 5000))
        if kind == "equal":
            weights = 4096.0**2
        cost = np.where(bits < 16, weights * bits // 8 + weights // 64, 2 * weights)
        fall = np.where(bits < 16, 0.25**bits, 0.0)
        costs.append(cost)
        losses.append(_loss(kind, rng, weights, cost, fall))
    floor = sum(cost.min() for cost in costs)
    most = sum(cost.max() for cost in costs)
    return Drawn(costs, losses, float(floor + rng.uniform(0.05, 0.6) * (most - floor)))


def _loss(
    kind: str, rng: np.random.Generator, weights: float, cost: Floats, fall: Floats
) -> Floats:
    count = len(cost)
    tables = {
        "spread": lambda: (
            10 ** rng.uniform(-6, 2) * fall * rng.lognormal(0, 0.3, count)
        ),
        "noisy": lambda: 10 ** rng.uniform(-1, 1) * fall * rng.lognormal(0, 1, count),
        "alike": lambda: weights * fall * rng.lognormal(0, 0.02, count),
        "random": lambda: rng.random(count),
        "strong": lambda: cost.max() - cost + 0.1 * weights * rng.integers(0, 2, count),
        "sum": lambda: cost.max() - cost,
    }
    return tables["spread" if kind == "equal" else kind]()


def by_highs(drawn: Drawn, seconds: float = 60) -> float:
    """The least loss, by the mixed-integer solver HiGHS, as good as it gets."""
    sizes = [len(cost) for cost in drawn.costs]
    ones = block_diag([csr_array(np.ones((1, size))) for size in sizes])
    cost = np.concatenate(drawn.costs) / drawn.room
    loss = np.concatenate(drawn.losses)
    found = milp(
        loss / np.abs(loss).max(),
        integrality=np.ones(sum(sizes)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(
            csc_array(vstack([csr_array(cost[None]), ones])),
            [-np.inf] + [1] * len(sizes),
            [1] * (len(sizes) + 1),
        ),
        options={"time_limit": seconds, "mip_rel_gap": 0},
    )
    # of what it chose, without the tolerance of its own sums
    return float(loss[found.x > 0.5].sum())
