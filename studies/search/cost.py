"""What a search costs with and without cheap looks: `python studies/search/cost.py`.

Searches the embedded BLIP-2 both ways, in studies of its own that are made anew, and
prints a row for each: the score on the evaluation set, allocations that were run on any
sample, samples that they were run on, and what those would be if each allocation had
seen an eighth of the search set; seconds, and the strategy's share of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from allocator.bench.prepare import prepare
from allocator.core.study import StudySpec
from allocator.search.run import run

BUDGETS = ("4.0",)
HEAD = (
    *("budget", "rungs", "score", "allocations", "samples", "an eighth of each"),
    *("search s", "strategy s"),
)


def main() -> None:
    """Search, and print the table."""
    print("| " + " | ".join(HEAD) + " |")
    print("|" + " --- |" * len(HEAD))
    for budget in BUDGETS:
        for rungs in (True, False):
            print("| " + " | ".join(row(budget, rungs=rungs)) + " |", flush=True)


def row(budget: str, *, rungs: bool) -> list[str]:
    """One search, in a study that nobody has used."""
    with tempfile.TemporaryDirectory() as folder:
        asked = StudySpec(
            budget, "vqav2", rungs=rungs, storage=f"sqlite:///{Path(folder) / 's.db'}"
        )
        size = len(prepare(asked).samples["search"])
        found = run(asked)
    seconds = dict(found.seconds)
    return [
        budget,
        "yes" if rungs else "no",
        f"{found.score.mean:.2f}",
        f"{found.evaluated_allocations}",
        f"{found.evaluated_samples:,}",
        f"{found.evaluated_allocations * size // 8:,}",
        f"{seconds['search']:.1f}",
        f"{seconds['sampler']:.1f}",
    ]


if __name__ == "__main__":
    main()
