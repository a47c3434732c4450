"""How long a study of 500 trials and 18 groups takes to explain.

    python -m tests.benchmarks.bench_explain

Trials are random allocations that fill a budget, by three methods; what they score is a
formula with a pair that acts together, and noise.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.core.study import StudySpec
from allocator.explain.explanation import explain_study
from allocator.space.model import ModelSpace
from allocator.strategies._moves import scatter
from allocator.study.journal import COSTS, Journal

TRIALS = 500
COMPONENTS = {"vision": 1.0, "connector": 0.3, "language": 2.0}


def spec() -> ModelSpec:
    """Three components of three blocks, each with attention and feed-forward."""
    linears = [
        Linear(f"{name}.{block}.{kind}", name, block, kind, 64 * wide, 64)
        for name in COMPONENTS
        for block in range(3)
        for kind, wide in (("attn", 4), ("ff", 8))
    ]
    weights = sum(each.weights for each in linears)
    return ModelSpec("bench", weights + 1000, build_groups(linears), ())


def main() -> None:
    """Make the study, explain it, tell."""
    choices = [Choice(b, m) for b in (2, 3, 4, 5, 6, 8) for m in ("gptq", "awq")]
    space = ModelSpace(spec(), Scheme(), (*choices, Choice(16)), Budget(4.5))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        asked = StudySpec(budget="4.5", task="vqav2").to_json()
        journal = Journal.create(f"{folder}/s.log", "bench", "identity", asked)
        journal.set_attribute(COSTS, space.costs)
        for _ in range(TRIALS):
            drawn = scatter(space, rng)
            lost = {k: 2.0**-c.bits * COMPONENTS[k.split(".")[0]] for k, c in drawn}
            pair = lost["language.end.ff"] * lost["vision.front.ff"]
            score = 90 - 20 * sum(lost.values()) - 200 * pair + rng.normal(0, 0.2)
            number = journal.begin(space, drawn, {"kind": "proposal", "limit": 4.5})
            journal.complete(number, score)
        again = Journal.load(f"{folder}/s.log", "bench")
        started = time.perf_counter()
        found = explain_study(again)
        seconds = time.perf_counter() - started
    importance = found["importance"]
    print(f"{importance['rows']} rows, {len(space.keys)} groups: {seconds:.1f} s")
    print("reason:", importance["unreliable"]["group"])
    print("first pair:", found["interactions"]["group"][:1])


if __name__ == "__main__":
    main()
