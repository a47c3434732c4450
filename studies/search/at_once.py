"""Several proposals at once against one at a time: `python studies/search/at_once.py`.

A strategy searches every published table with K = 1, 2, 4, 8 and 16 proposals at once,
told of what is pending in each way of `at_once_ways.py`. Regret is judged after equal
numbers of scores; the widest uniform row that fits is read first and counts as one.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from at_once_ways import LIES, WAYS, Told
from tables import CASES, PUBLISHED

from allocator.core.plugins import load
from allocator.search.at_once import at_once
from allocator.space.table import TableSpace, read_table
from allocator.tables.oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AFTER = (10, 20, 40)
AT_ONCE = (1, 2, 4, 8, 16)
SWEEP = PUBLISHED / "blip2_coco_uniform.csv"
GROUPS = "vit_*,qformer_*,llm_*"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """A table under a budget in bits per weight."""

    case: str
    budget: float
    space: TableSpace


def tasks() -> Iterator[Task]:
    """Tables and budgets at which there is something to find and enough to read."""
    for case, budgets in ((CASES[0], (4, 4.5, 5, 6, 8)), (CASES[1], (6,))):
        table = read_table(case.path, case.score, "bpw")
        for budget in budgets:
            yield Task(case.name, budget, TableSpace(table, budget))
    table = read_table(SWEEP, "cider", "bpw", GROUPS)
    for budget in (9, 10, 11, 13):
        yield Task("captioning, 18 groups", budget, TableSpace(table, budget))


def regrets(task: Task, strategy: str, way: str, times: int, seed: int) -> list[float]:
    """Regret after each score, of a search that asks so many times at once."""
    space = task.space
    oracle = Oracle(space, min(max(AFTER), len(space.rows)))
    proposer: Any = Told(load("allocator.strategies", strategy)(space, seed), way)
    fitting = [a for a in space.alike_rows if space.fits(a)]
    if fitting:
        oracle.read(fitting[-1])
    while oracle.reads < oracle.limit:
        wanted = min(times, oracle.limit - oracle.reads)
        lists = at_once(proposer, oracle.known, wanted)
        for found in lists:
            oracle.read(found[0].allocation)
        if not lists:
            break
    best = max(float(space.row(a).score) for a in space.rows)
    scores = [score for _, score in oracle.known.measured]
    course: list[float] = np.minimum.accumulate(best - np.array(scores)).tolist()
    return course


def measure(
    strategy: str, seeds: int, at_once_: Sequence[int], ways: Sequence[str]
) -> list[dict[str, Any]]:
    """Every way at every K on every task: regrets after some scores, by seed."""
    found = []
    for task in tasks():
        for times in at_once_:
            for way in ways if times > 1 else ("barred",):
                courses = [
                    regrets(task, strategy, way, times, seed) for seed in range(seeds)
                ]
                after = {
                    str(n): [round(c[min(n, len(c)) - 1], 5) for c in courses]
                    for n in AFTER
                }
                row = {"case": task.case, "budget": task.budget, "at_once": times}
                found.append({**row, "way": way, "regrets": after})
        print(f"{task.case}, {task.budget:g} bpw", flush=True)
    return found


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--strategy", default="surrogate")
    parser.add_argument("--at-once", type=int, action="append")
    parser.add_argument("--out", type=Path, default=HERE / "at_once_tables.json")
    asked = parser.parse_args()
    # who has no model of scores has no fantasies
    ways = WAYS if asked.strategy == "surrogate" else ("barred", *LIES)
    times = [1, *asked.at_once] if asked.at_once else AT_ONCE
    rows = measure(asked.strategy, asked.seeds, times, ways)
    asked.out.write_text("".join(["[", ",\n".join(map(json.dumps, rows)), "]\n"]))


if __name__ == "__main__":
    main()
