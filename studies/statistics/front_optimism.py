"""Whether corrected scores of a front are right at each of its sizes: simulated.

    python -m studies.statistics.front_optimism [--quick]

A reply is right where the quality of an allocation and noise of its own are above how
hard the sample is; wider allocations are better and noisier the less. For each of eight
budgets three proposals are the best of eight by a look at a quarter of the search set;
five members of the front are known on the evaluation set. A row for each budget: what
the other members score too much there, before and after.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.space.fronts import front
from evals.optimism import SIDE, Elsewhere

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEARCH, EVALUATION, BUDGETS, PROPOSALS, CANDIDATES, KNOWN = 1_000, 2_000, 8, 3, 8, 5
# quality and noise of full precision and of uniform allocations
BASELINES = ((2.2, 0.0), (-0.5, 1.0), (0.3, 0.8), (1.2, 0.4), (1.8, 0.2))
TABLE = Path(__file__).parents[1] / "results" / "statistics_front_optimism.csv"


def drawn(rng: np.random.Generator) -> tuple[NDArray[np.float64], list[Any]]:
    """Scores of all samples, and the budget of each row, None for baselines."""
    hard = rng.normal(size=SEARCH + EVALUATION)

    def replies(quality: float, noise: float) -> NDArray[np.float64]:
        own = noise * rng.normal(size=len(hard))
        return np.where(quality + own > hard, 100.0, 0.0)

    rows, groups = [replies(*each) for each in BASELINES], [None] * len(BASELINES)
    for budget in range(BUDGETS):
        for _ in range(PROPOSALS):
            qualities = 0.2 + 0.22 * budget + 0.08 * rng.normal(size=CANDIDATES)
            tried = np.array([replies(q, 0.9 - 0.1 * budget) for q in qualities])
            rows.append(tried[tried[:, :SEARCH:4].mean(axis=1).argmax()])
            groups.append(budget)
    return np.array(rows), groups


def replicate(rng: np.random.Generator) -> list[tuple[int, float, float, bool]]:
    """Budget, error before and after, and whether the interval holds the score."""
    rows, groups = drawn(rng)
    here, there = rows[:, :SEARCH], rows[:, SEARCH:].mean(axis=1)
    sizes = [16.0 if group is None else 3 + 0.4 * group for group in groups]
    # none is of quite the size of another
    sizes = [size + 0.001 * place for place, size in enumerate(sizes)]
    points = list(zip(sizes, here.mean(axis=1).tolist(), strict=True))
    members = [place for place in front(points) if groups[place] is not None]
    last = len(members) - 1
    finalists = [members[round(at * last / (KNOWN - 1))] for at in range(KNOWN)]
    known = np.full(len(rows), np.nan)
    places = [*range(len(BASELINES)), *finalists]
    known[places] = there[places]
    found = Elsewhere(here, known, EVALUATION, groups)
    told = []
    for place in set(members) - set(finalists):
        error = float(found.scores[place] - there[place])
        side = SIDE * float(found.covariance[place, place]) ** 0.5
        before = float(here[place].mean() - there[place])
        told.append((groups[place], before, error, abs(error) <= side))
    return told


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer replicates")
    quick = parser.parse_args().quick
    rng = np.random.default_rng(0)
    told = [row for _ in range(100 if quick else 400) for row in replicate(rng)]
    head = ("budget", "members", "before", "after", "standard error", "inside")
    table = []
    for budget in (*sorted({row[0] for row in told}), "all"):
        own = np.array([row[1:] for row in told if budget in (row[0], "all")])
        before, after, inside = own.mean(axis=0)
        error = own[:, 1].std(ddof=1) / len(own) ** 0.5
        cells = (f"{x:.3f}" for x in (before, after, error, inside))
        table.append((str(budget), str(len(own)), *cells))
    print("\n".join(", ".join(row) for row in (head, *table)))
    if not quick:
        with TABLE.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows((head, *table))


if __name__ == "__main__":
    main()
