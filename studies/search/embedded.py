"""The embedded models as cases: every strategy searches them on the full search set.

What is measured is kept by allocation and shared by all strategies, seeds and budgets;
each strategy is told only what it asked for itself, baselines and prior beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import optuna

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.bench.probes import damages
from allocator.core.clock import Clock
from allocator.core.ports import Score
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.search.propose import PROBED, propose
from allocator.search.running import Search
from allocator.study.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample

SEEDS = 3
EVALUATIONS = 20


@dataclass(frozen=True)
class Case:
    """A model, a task, and budgets in bits per weight."""

    model: str
    task: str
    budgets: tuple[float, ...]

    @property
    def name(self) -> str:
        """For tables and files."""
        return f"{self.model} {self.task}"


CASES = (
    Case("tiny-blip2", "vqav2", (3.75, 4.0, 4.5)),
    Case("tiny-llava", "vqav2", (3.75, 4.0, 4.5)),
)


class Remembering:
    """A bench that measures nothing twice, in this run or an earlier one."""

    def __init__(self, bench: Any, path: Path) -> None:
        self.bench = bench
        self.path = path
        self.model = bench.model
        self.cost, self.order = bench.cost, bench.order
        self.values: dict[str, float] = {}
        if path.exists():
            whole = path.read_text().rpartition("\n")[0].splitlines()
            self.values = dict(json.loads(line) for line in whole)
            path.write_text("".join(f"{line}\n" for line in whole))

    def _once(self, key: str, measure: Any) -> float:
        if key not in self.values:
            self.values[key] = measure()
            with self.path.open("a") as file:
                file.write(json.dumps([key, self.values[key]]) + "\n")
        return self.values[key]

    def applied(self, allocation: Allocation) -> str:
        """As the allocation is."""
        return allocation.digest

    def score(self, allocation: Allocation, samples: Sequence[Sample]) -> Score:
        """The mean alone."""
        key = f"score {len(samples)} {allocation.digest}"
        mean = self._once(key, lambda: self.bench.score(allocation, samples).mean)
        return Score(mean, (mean,))

    def divergence(
        self,
        allocation: Allocation,
        samples: Sequence[Sample],
        ahead: Allocation | None = None,
    ) -> float:
        """Of the same samples."""
        key = f"divergence {len(samples)} {allocation.digest}"
        return self._once(
            key, lambda: self.bench.divergence(allocation, samples, ahead)
        )


@dataclass
class Opened:
    """A case's model on a bench, with the prior."""

    case: Case
    setup: Setup
    bench: Remembering
    damage: Any

    @staticmethod
    def of(case: Case, folder: Path) -> Opened:
        """Load a model, and measure the prior as a search does."""
        asked = StudySpec(str(case.budgets[0]), case.task, model=case.model)
        setup = prepare(asked)
        bench = open_bench(setup, Silent())
        probed = setup.samples["calibration"][:PROBED]
        damage = dict(damages(bench, probed, setup.space.choices))
        kept = folder / f"{case.model}-{case.task}.jsonl"
        return Opened(case, setup, Remembering(bench, kept), damage)

    def search(
        self,
        budget: float,
        strategy: str,
        seed: int,
        *,
        rungs: bool = True,
        narrowing: bool = False,
    ) -> tuple[list[float], Search]:
        """Best score after each full measurement, baselines before the first."""
        asked = replace(
            self.setup.asked,
            budget=f"{budget}",
            strategy=strategy,
            seed=seed,
            trials=EVALUATIONS,
            rungs=rungs,
            narrowing=narrowing,
        )
        space = replace(self.setup.space, budget=asked.limit)
        setup = replace(self.setup, asked=asked, space=space)
        journal = Journal(optuna.create_study(direction="maximize"), "memory")
        journal.keep_damage(self.damage)
        search = Search(setup, journal, self.bench, Silent(), Clock())  # type: ignore[arg-type]
        for allocation in (space.full, *space.uniform):
            if allocation == space.full or space.fits(allocation):
                search.look_at(allocation)
                search.measure(allocation, "uniform")
        propose(search)
        best, found = float("-inf"), []
        for record in search.records:
            if space.fits(record.allocation):
                best = max(best, record.score)
            if record.kind == "proposal":
                found.append(best)
        # a strategy that has nothing new keeps what it has
        return found + [best] * (EVALUATIONS - len(found)), search
