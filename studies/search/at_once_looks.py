"""Several proposals at once where cheap looks race.

    python studies/search/at_once_looks.py --at-once 1 --at-once 8 --out FILE.jsonl

The default strategy searches planted models (`planted.py`) with K = 1 to 16 lists of 48
candidates at once, told of what is pending in each way of `at_once_ways.py`. Each list
has a race of its own (`apart`), or all race together and K survive (`together`).
A line for each search is kept in `--out`, and not run again.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from at_once_ways import WAYS, Told
from planted import Planted, rungs_of

from allocator.core.clock import Clock
from allocator.core.plugins import load
from allocator.search.at_once import at_once
from allocator.strategies._base import Known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.search.rungs import Rungs
    from allocator.strategies._base import Candidate

RACES = ("apart", "together")
TRIALS = 40


def searched(world: Planted, times: int, way: str, race: str) -> list[float]:
    """The best score on the search set after each proposal, baselines before them."""
    space, rungs = world.space, rungs_of(world)
    make = load("allocator.strategies", "surrogate")
    strategy = make(space, world.seed, world.damage)
    proposer: Any = Told(strategy, way)
    measured: dict[Allocation, float] = {}
    for allocation in (space.full, *space.uniform):
        rungs.look_at(allocation)
        measured[allocation] = world.score(allocation)
    best = max(score for a, score in measured.items() if space.fits(a))
    found: list[float] = []
    while len(found) < TRIALS:
        pairs = tuple(measured.items())
        taken = frozenset(a.digest for a in measured)
        known = Known(pairs, rungs.estimates(pairs), taken)
        wanted = min(times, TRIALS - len(found))
        lists = at_once(proposer, known, wanted, strategy.offspring)
        for chosen in survivors(rungs, lists, known, race):
            measured[chosen.allocation] = world.score(chosen.allocation)
            best = max(best, measured[chosen.allocation])
            found.append(best)
    return found


def survivors(
    rungs: Rungs, lists: Sequence[list[Candidate]], known: Known, race: str
) -> list[Candidate]:
    """As many candidates as there are lists."""
    if race == "apart":
        return [rungs.survivor(own, known.measured) for own in lists]
    left = [each for own in lists for each in own]
    steps = rungs.rungs()
    for at, (kind, size, outlive) in enumerate(steps):
        rungs.values([each.allocation for each in left], kind, size)
        suggests = rungs._suggests(steps[: at + 1], known.measured)
        left.sort(key=lambda c: -suggests(rungs.seen(c.allocation)))
        left = left[: outlive * len(lists)]
    return left


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--at-once", type=int, action="append", required=True)
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--race", action="append", choices=RACES)
    asked = parser.parse_args()
    lines = asked.out.read_text().splitlines() if asked.out.exists() else []
    done = {tuple(json.loads(line)[:5]) for line in lines}
    for seed, budget in product(range(asked.seeds), asked.budget):
        world = Planted(budget, seed)
        for times, way, race in product(
            asked.at_once, asked.way or WAYS, asked.race or RACES
        ):
            key = (budget, seed, times, way, race)
            if key in done or (times == 1 and (way, race) != ("barred", "apart")):
                continue
            watch = Clock()
            found = searched(world, times, way, race)
            with asked.out.open("a") as file:
                rounded = [round(each, 3) for each in found]
                file.write(json.dumps([*key, rounded]) + "\n")
            print(*key, f"{watch.seconds:.0f} s", found[-1], flush=True)


if __name__ == "__main__":
    main()
