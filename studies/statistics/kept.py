"""How often a score that is to be kept is not: `python -m studies.statistics.kept`.

Searches for the smallest allocation that keeps a share of full precision's score, in a
world whose true scores are known: 18 groups that lose a part of the score at few bits;
20 proposals are optima of damages that are right but for some noise. The product's own
goal says where to look and the product's own end of a search chooses; beside it the
rule of before, by the mean alone. Writes studies/results/statistics_kept.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.errors import NotReachedError
from allocator.core.records import TrialRecord
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.search.keep_score import LEVELS, KeepScore
from allocator.search.measured import Measured
from allocator.space.model import ModelSpace, limit_of
from allocator.strategies._base import Known
from allocator.strategies.knapsack import Knapsack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation

OUT = Path(__file__).parents[1] / "results" / "statistics_kept.json"
WIDTHS = (2, 3, 4, 5, 6, 8)
FULL = 0.93
TRIALS = 20
SEARCHED = 1_000


@dataclass(frozen=True)
class ByMean(KeepScore):
    """The rule of before: the smallest whose mean reaches the share."""

    def surplus(self, measured: Measured, full: Measured) -> float:
        """What its mean has beyond the share."""
        return measured.mean - self.share * full.mean

    def finalists(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The five smallest that reach it on the search set."""
        return self._reached(records, 0)[: len(LEVELS)]

    def choose(self, measured: Sequence[Measured], full: Measured) -> Measured:
        """The smallest that reaches it, in whatever order they come."""
        kept = [m for m in measured if self.surplus(m, full) >= 0]
        if not kept:
            raise NotReachedError("none")
        return min(kept, key=self._rank)


def space() -> ModelSpace:
    """Eighteen groups of two sizes in three components."""
    linears = [
        Linear(f"{part}.{block}.{kind}", part, block, kind, size, 128)
        for part in ("vision", "connector", "language")
        for block in range(3)
        for kind, size in (("attn", 256), ("ff", 512))
    ]
    spec = ModelSpec("toy", 900_000, build_groups(linears), ())
    choices = tuple(Choice(bits, "gptq") for bits in WIDTHS)
    return ModelSpace(spec, Scheme(), choices, Budget(16.0))


@dataclass
class World:
    """True and drawn scores of allocations, on samples of one draw.

    `near` is the correlation of two allocations' latent values on a sample.
    """

    inside: ModelSpace
    rng: np.random.Generator
    samples: int
    near: float
    drawn: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # shares of the score that groups lose at 2 bits, a third of it a bit more
        self.heavy = 0.04 * self.rng.lognormal(0, 1, len(self.inside.keys))
        self.common = self.rng.standard_normal(SEARCHED + self.samples)

    def share(self, allocation: Allocation) -> float:
        """What is kept of full precision's score in truth."""
        bits = np.array([choice.bits for _, choice in allocation])
        lost = float((self.heavy * 3.0 ** (2 - bits))[bits < 16].sum())
        return 1 - lost

    def values(self, allocation: Allocation) -> np.ndarray:
        """100 or 0 for each search and evaluation sample."""
        if allocation.digest not in self.drawn:
            own = self.rng.standard_normal(len(self.common))
            latent = np.sqrt(self.near) * self.common + np.sqrt(1 - self.near) * own
            edge = NormalDist().inv_cdf(max(1e-6, FULL * self.share(allocation)))
            self.drawn[allocation.digest] = 100.0 * (latent < edge)
        return self.drawn[allocation.digest]

    def record(self, allocation: Allocation, kind: str, **about: Any) -> TrialRecord:
        """What a search keeps of it."""
        score = float(self.values(allocation)[:SEARCHED].mean())
        return TrialRecord(
            allocation, score, self.inside.bpw(allocation), kind, "", **about
        )

    def measured(self, allocation: Allocation) -> Measured:
        """The same on the evaluation set."""
        values = tuple(self.values(allocation)[SEARCHED:].tolist())
        return Measured(allocation, values, allocation.digest)

    def damage(self) -> dict[tuple[str, Choice], float]:
        """What a search takes the groups to lose: right to within a factor of 1.5."""
        noise = self.rng.lognormal(0, 0.4, len(self.heavy))
        return {
            (key, choice): float(heavy * each * 3.0 ** (2 - choice.bits))
            for key, heavy, each in zip(
                self.inside.keys, self.heavy, noise, strict=True
            )
            for choice in self.inside.choices
        }


def searched(world: World, goal: KeepScore) -> list[TrialRecord]:
    """Baselines, then proposals within what the goal says."""
    inside = world.inside
    records = [world.record(inside.full, "full")]
    records += [world.record(each, "uniform") for each in inside.uniform]
    damage, spent = world.damage(), set[float]()
    for trial in range(TRIALS):
        at = goal.space(records, spent)
        if at is None:
            break
        measured = tuple((r.allocation, r.score) for r in records)
        taken = frozenset(r.allocation.digest for r in records)
        found = Knapsack(at, trial, damage).ask(Known(measured, (), taken), 1)
        if not found:
            spent.add(limit_of(at))
            continue
        about = {"budget": goal.name, "limit": limit_of(at)}
        records.append(world.record(found[0].allocation, "proposal", **about))
    return records


def once(world: World, goal: KeepScore) -> tuple[float, float] | None:
    """True share and size of what is chosen; None where nothing is."""
    goal = replace(
        goal,
        values=lambda: {key: each[:SEARCHED] for key, each in world.drawn.items()},
    )
    records = searched(world, goal)
    score = {r.allocation.digest: r.score for r in records}
    field_ = {r.allocation.digest: r.allocation for r in goal.finalists(records)}
    field_ |= {each.digest: each for each in world.inside.uniform}
    listed = sorted(field_.values(), key=lambda a: -score[a.digest])
    full = world.measured(world.inside.full)
    try:
        chosen = goal.choose([world.measured(each) for each in listed], full)
    except NotReachedError:
        return None
    return world.share(chosen.allocation), world.inside.bpw(chosen.allocation)


def runs(samples: int, share: float, near: float, count: int, seed: int) -> Any:
    """How often the choice falls short of the share, and its size, by either rule."""
    inside, found = space(), {}
    for kind in (ByMean, KeepScore):
        goal = kind(inside, share, 0.95, (samples,))
        rows = []
        for at in range(count):
            rng = np.random.default_rng([seed, at])
            rows.append(once(World(inside, rng, samples, near), goal))
        reached = np.array([row for row in rows if row is not None])
        found[kind.__name__] = {
            "reached": len(reached) / count,
            "short": float((reached[:, 0] < share).sum() / count),
            "bpw": float(reached[:, 1].mean()),
            "short_by": float(np.maximum(0, share - reached[:, 0]).max()),
        }
    return found


def main() -> None:
    """Run all cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    started, table = time.monotonic(), []
    for samples, share, near in (
        (2_000, 0.98, 0.97),
        (2_000, 0.98, 0.9),
        (2_000, 0.95, 0.97),
        (500, 0.95, 0.97),
        (21_435, 0.98, 0.97),
    ):
        count = 20 if quick else 600
        if samples > 2_000:
            count //= 4
        row = {"samples": samples, "share": share, "correlation": near, "runs": count}
        row |= runs(samples, share, near, count, 0)
        table.append(row)
        print(json.dumps(row), flush=True)
    if not quick:
        OUT.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
