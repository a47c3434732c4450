"""How much of a trial is not the model: applying an allocation, scoring replies.

From an allocation given to a score returned, on the whole evaluation set of an embedded
model, apart from the first trial, which reads the pictures:

    python -m tests.benchmarks.bench_apply --model tiny-blip2 --trials 8
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.core.allocation import Allocation
from allocator.core.study import StudySpec
from allocator.core.watch import Silent


class Timed:
    """A model whose stages and generation are timed."""

    def __init__(self, model: Any) -> None:
        self.model, self.module, self.seconds = model, model.module, 0.0
        self.laid = tuple(
            replace(stage, run=self.timed(stage.run)) for stage in model.stages()
        )

    def timed(self, run: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return run(*args, **options)
            finally:
                self.seconds += time.perf_counter() - started

        return call

    def stages(self) -> Any:
        return self.laid

    def inputs(self, *args: Any, **options: Any) -> Any:
        return self.model.inputs(*args, **options)

    def lengths(self, samples: Any) -> Any:
        return self.model.lengths(samples)

    def features(self, state: Any) -> Any:
        return self.model.features(state)

    def generate(self, *args: Any) -> Any:
        return self.timed(self.model.generate)(*args)


def measure(model: str, trials: int, seed: int) -> dict[str, Any]:
    """Seconds of random allocations, and the share of them outside the model."""
    setup = prepare(StudySpec(budget="16", task="vqav2", model=model))
    bench = open_bench(setup, Silent())
    timed = Timed(bench.model)
    bench.model = timed
    samples, chance = setup.samples["evaluation"], random.Random(seed)
    rows = []
    for number in range(trials + 1):
        choices = {key: chance.choice(setup.space.choices) for key in setup.model.keys}
        allocation = Allocation.of(setup.model.keys, choices)
        timed.seconds, started = 0.0, time.perf_counter()
        bench.apply(allocation)
        applied = time.perf_counter() - started
        bench.score(allocation, samples)
        total = time.perf_counter() - started
        if number:
            rows.append((total, applied, 1 - timed.seconds / total))
    total, applied, outside = (
        statistics.median(column) for column in zip(*rows, strict=True)
    )
    return {
        "model": model,
        "samples": len(samples),
        "trials": trials,
        "seconds": total,
        "apply_seconds": applied,
        "outside_percent": 100 * outside,
        "outside_percent_most": 100 * max(row[2] for row in rows),
    }


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["tiny-blip2", "tiny-llava"])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = [measure(model, asked.trials, asked.seed) for model in asked.model]
    for row in found:
        print(
            f"{row['model']}: {row['seconds']:.2f} s for {row['samples']:,} samples, "
            f"{1000 * row['apply_seconds']:.0f} ms to apply, "
            f"{row['outside_percent']:.1f} % outside the model "
            f"(at most {row['outside_percent_most']:.1f} %; target 5 %)"
        )
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
