"""What a second budget on a study takes and finds, beside a fresh search for it.

    python -m studies.search.second --seeds 0 1 2 --out studies/search/second.jsonl

For each model, pair of budgets and seed: the second budget on a study that the first
was searched in, and in a study of its own. Scores are of the evaluation set, and
differences are paired by its samples; seconds are of the processor. Cells that the file
has are passed over. `--quick` neither tunes nor concludes the first search.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from itertools import product
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from allocator.core.study import StudySpec
from allocator.search.run import run
from allocator.study.journal import MEASURED, Journal

MODELS, PAIRS = ("tiny-blip2", "tiny-llava"), ("4.0 3.5", "3.5 4.0")


def main() -> None:
    """Search what is missing, and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    lines = asked.out.read_text().splitlines() if asked.out.exists() else []
    found = [json.loads(line) for line in lines]
    known = [[row["model"], row["budgets"], row["seed"]] for row in found]
    for cell in product(asked.models, asked.pairs, asked.seeds):
        if [*cell] in known:
            continue
        row = compared(*cell, quick=asked.quick)
        found.append(row)
        print(row, flush=True)
        with asked.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    gaps = [row["second"] - row["fresh"] for row in found]
    print(f"second - fresh: mean {mean(gaps):+.2f}, from {min(gaps):+.2f} to", end=" ")
    print(f"{max(gaps):+.2f} over {len(gaps)} cells")


def compared(model: str, budgets: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Scores and seconds of a cell."""
    first, second = budgets.split()
    usual: dict[str, Any] = {"task": "vqav2", "model": model, "seed": seed}
    usual |= {"tune": False} if quick else {}
    wanted = StudySpec(second, **usual)
    rest = {"finalize": False, "refine": False} if quick else {}
    both = _searched([StudySpec(first, **{**usual, **rest}), wanted])
    (_, before, _), (values, known, made) = both
    ((fresh, alone, _),) = _searched([wanted])
    gaps = [a - b for a, b in zip(values, fresh, strict=True)]
    return {
        "model": model,
        "budgets": budgets,
        "seed": seed,
        "second": mean(values),
        "fresh": mean(fresh),
        "error": stdev(gaps) / sqrt(len(gaps)),
        "proposals": made,
        "seconds": {"first": before, "second": known, "fresh": alone},
    }


def _searched(asked: list[StudySpec]) -> list[tuple[tuple[float, ...], float, int]]:
    """Searches in one home of their own: scores, seconds and proposals of each."""
    told = []
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_DATA_HOME"] = home
        for each in asked:
            begun = time.process_time()
            found = run(each)
            spent = time.process_time() - begun
            kept = Journal.load(None, found.study).attribute(MEASURED + found.applied)
            told.append((tuple(kept["values"]), spent, found.complete))
    return told


if __name__ == "__main__":
    main()
