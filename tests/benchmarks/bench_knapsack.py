"""Milliseconds of the exact knapsack, beside the mixed-integer solver HiGHS.

    python -m tests.benchmarks.bench_knapsack --classes 18 500 --seeds 5

19 choices for each class: six widths by three methods, and 16 bits. `tests/strategies/
drawn.py` says what the kinds are; "strong" and "sum" are made to be hard. "open" is how
far an answer can be from the best, in millionths of its loss; 0 where it is the best.
HiGHS stops at absolute tolerances, so that it is often worse.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

from allocator.strategies._knapsack import solve
from tests.strategies.drawn import KINDS, by_highs, draw


def measure(kind: str, classes: int, seeds: int, limit: float) -> str:
    """A row of the table."""
    times, opens, worse, other_times = [], [], 0, []
    for seed in range(seeds):
        drawn = draw(kind, classes, seed)
        start = perf_counter()
        found = solve(drawn.costs, drawn.losses, drawn.room)
        times.append(1000 * (perf_counter() - start))
        assert found is not None
        opens.append(1e6 * (found.loss - found.bound) / abs(found.loss))
        if limit:
            start = perf_counter()
            other = by_highs(drawn, limit)
            other_times.append(1000 * (perf_counter() - start))
            worse += other > found.loss * (1 + 1e-9)
            assert found.loss <= other * (1 + 1e-6)
    own = f"{median(times):9.1f} {max(times):9.1f} {max(opens):9.3f}"
    beside = f" {median(other_times):9.1f} {worse:3}/{seeds}" if limit else ""
    return f"{kind:8}{classes:5}{own}{beside}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[18, 500])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--highs", type=float, default=0, help="seconds it may take")
    given = parser.parse_args()
    beside = "   HiGHS ms  worse" if given.highs else ""
    print(f"kind  classes   median      most      open{beside}")
    for classes in given.classes:
        for kind in KINDS:
            print(measure(kind, classes, given.seeds, given.highs), flush=True)


if __name__ == "__main__":
    main()
