"""How often a score that is to be kept is not: `python -m studies.statistics.kept`.

Searches for the smallest allocation that keeps a share of full precision's score, in a
world whose true scores are known: 18 groups that lose a part of the score at few bits;
20 proposals save most by damages that are right but for some noise. The product's own
goal says where to look and the product's own end of a search chooses; beside it the
rule of before, by the mean alone. Writes studies/results/statistics_kept.json.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.errors import NotReachedError
from allocator.core.records import ADDITIVE, EVEN_MIX, TrialRecord
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.search import confirm as end
from allocator.search.contest import Contest
from allocator.search.keep_score import LEVELS, KeepScore
from allocator.search.measured import Measured
from allocator.space.even_mix import even_mix
from allocator.space.model import ModelSpace, limit_of
from allocator.strategies._knapsack import knapsack
from evals.interval import Draws
from studies.statistics._coverage import command
from studies.statistics.intervals import Sized

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation

    Floats = NDArray[Any]

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

    def _reached(
        self, records: Sequence[TrialRecord], level: float
    ) -> list[TrialRecord]:
        del level
        return super()._reached(records, 0)

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
    return Sized(spec, Scheme(), choices, Budget(16.0))


class Undrawn(Contest):
    """The product's, without the draws that intervals need: none is asked for here."""

    @cached_property
    def _draws(self) -> Draws:
        means = np.array([m.mean for m in (*self._seen.values(), self.full)])
        return Draws(means, np.zeros((1, len(means))))


@dataclass
class World:
    """True and drawn scores of allocations, on samples of one draw.

    `near` is the correlation of two allocations' latent values on a sample.
    """

    inside: ModelSpace
    rng: np.random.Generator
    samples: int
    near: float
    drawn: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # shares of the score that groups lose at 2 bits, a third of it a bit more
        self.heavy = 0.04 * self.rng.lognormal(0, 1, len(self.inside.keys))
        # what a search takes groups to lose is right to within a factor of 1.5
        noise = self.heavy * self.rng.lognormal(0, 0.4, len(self.heavy))
        self.guessed = {
            (key, choice): float(each * 3.0 ** (2 - choice.bits))
            for key, each in zip(self.inside.keys, noise, strict=True)
            for choice in self.inside.choices
        }
        self.common = self.rng.standard_normal(SEARCHED + self.samples)

    def share(self, allocation: Allocation) -> float:
        """What is kept of full precision's score in truth."""
        bits = np.array([choice.bits for _, choice in allocation])
        lost = float((self.heavy * 3.0 ** (2 - bits))[bits < 16].sum())
        return 1 - lost

    def gain(self, allocation: Allocation) -> float:
        """What finalization adds to that share: half of the time it takes away."""
        seed = int(allocation.digest, 16) % 2**32
        return 0.004 * np.random.default_rng(seed).uniform(-1, 1)

    def values(self, allocation: Allocation, *, is_finalized: bool = False) -> Floats:
        """100 or 0 for each search and evaluation sample."""
        key = f"{allocation.digest}{'+' * is_finalized}"
        if key not in self.drawn:
            own = self.rng.standard_normal(len(self.common))
            latent = np.sqrt(self.near) * self.common + np.sqrt(1 - self.near) * own
            share = self.share(allocation) + is_finalized * self.gain(allocation)
            edge = NormalDist().inv_cdf(min(max(1e-6, FULL * share), 1 - 1e-6))
            self.drawn[key] = 100.0 * (latent < edge)
        return self.drawn[key]

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

    def finished(self, bank: Measured) -> Measured:
        """With finalized weights where these are better."""
        again = self.values(bank.allocation, is_finalized=True)[SEARCHED:]
        values = tuple(again.tolist())
        other = replace(bank, values=values, finalized="in sequence")
        return other if other.mean > bank.mean else bank

    def true(self, winner: Measured) -> float:
        """The share that a winner keeps in truth."""
        is_finalized = winner.finalized is not None
        return self.share(winner.allocation) + is_finalized * self.gain(
            winner.allocation
        )


def proposed(
    at: ModelSpace, damage: Mapping[tuple[str, Choice], float], rng: Any
) -> Allocation:
    """Widened step by step where it saves most for its bytes, few of them not."""
    found, room, open_ = at.smallest, at.room - at.bytes(at.smallest), set(at.keys)
    while open_:
        steps = {}
        for key in open_:
            place = at.choices.index(found[key])
            wider = at.choices[place + 1] if place + 1 < len(at.choices) else None
            sizes = at.group_bytes[key]
            cost = sizes[wider.bits] - sizes[found[key].bits] if wider else room + 1
            if wider and cost <= room:
                saved = damage[key, found[key]] - damage[key, wider]
                steps[key] = (saved / cost, cost, wider)
        open_ &= set(steps)
        if not steps:
            break
        key = max(steps, key=lambda each: steps[each][0])
        if rng.random() < 0.02:
            open_.discard(key)
            continue
        found, room = found.replace({key: steps[key][2]}), room - steps[key][1]
    return found


def searched(world: World, goal: KeepScore) -> list[TrialRecord]:
    """Baselines, then proposals within what the goal says."""
    inside = world.inside
    records = [world.record(inside.full, "full")]
    records += [world.record(each, "uniform") for each in inside.uniform]
    for _ in range(TRIALS):
        at = goal.space(records)
        if at is None:
            break
        found = proposed(at, world.guessed, world.rng)
        about = {"budget": goal.name, "limit": limit_of(at)}
        if found.digest not in {r.allocation.digest for r in records}:
            records.append(world.record(found, "proposal", **about))
            continue
        # found before: the budget is tried once more, with no new score
        known = next(r for r in records if r.allocation.digest == found.digest)
        records.append(replace(known, **about))
    return records


def once(world: World, goal: KeepScore) -> tuple[float, float] | None:
    """True share and size of what is chosen; None where nothing is."""
    inside = world.inside
    goal = replace(
        goal, values=lambda: {key: v[:SEARCHED] for key, v in world.drawn.items()}
    )
    records = searched(world, goal)
    # in the place where the module looks for it
    end.Contest = Undrawn  # type: ignore[attr-defined]
    try:
        found = end.confirm(
            inside,
            records,
            goal,
            evaluate=world.measured,
            finish=world.finished,
            rivals=lambda at: {
                EVEN_MIX: even_mix(at, "gptq"),
                ADDITIVE: knapsack(at, world.guessed),
            },
            progress=lambda *_: None,
            seed=0,
            strata=goal.strata,
        )
    except NotReachedError:
        return None
    return world.true(found.winner), inside.bpw(found.winner.allocation)


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


def cases(most: int, quick: bool) -> Iterator[dict[str, Any]]:
    """A row of the table for each case."""
    for samples, share, near in (
        (2_000, 0.98, 0.97),
        (2_000, 0.98, 0.9),
        (2_000, 0.95, 0.97),
        (500, 0.95, 0.97),
        (21_435, 0.98, 0.97),
    ):
        count = 20 if quick else most
        if samples > 2_000:
            count //= 4
        case = {"samples": samples, "share": share, "correlation": near, "runs": count}
        yield case | runs(samples, share, near, count, 0)


if __name__ == "__main__":
    command(__doc__, 400, OUT, cases)
