"""What the embedded models lose when they are quantized: the landscape of a search.

    python studies/embedded/landscape.py [tiny-blip2 tiny-llava] [--out FILE.json]

Scores the evaluation sets of every task a model can do, at full precision and under
every uniform allocation; on VQAv2 also with single components at 2 bits. `--table`
prints FILE.json as the table of the README.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import SpecError
from allocator.core.plugins import available
from allocator.core.spec import COMPONENTS
from allocator.core.study import StudySpec
from allocator.report.progress import Bars
from evals.interval import bootstrap

if TYPE_CHECKING:
    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench

SHOWN = (8, 4, 3, 2)
METHODS = {"uniform": "uniform", "gptq": "GPTQ", "awq": "AWQ"}


def scores(setup: Setup, bench: Workbench) -> dict[str, Any]:
    """Score of full precision and of every uniform allocation on one task."""
    space, samples = setup.space, setup.samples["evaluation"]

    def score(allocation: Allocation) -> dict[str, Any]:
        started = time.monotonic()
        found = bench.score(allocation, samples)
        return {
            "score": round(found.mean, 4),
            "ci95": [round(end, 4) for end in bootstrap(found.values).ci95],
            "details": {name: round(v, 4) for name, v in found.details.items()},
            "seconds": round(time.monotonic() - started, 2),
        }

    full = score(space.full)
    print(f"{setup.asked.model}, {setup.task.name}: full {full}", flush=True)
    uniform = []
    for choice, allocation in zip(space.choices, space.uniform, strict=False):
        row = {"bits": choice.bits, "method": choice.method}
        row |= {"bpw": round(space.bpw(allocation), 3), **score(allocation)}
        uniform.append(row)
        print(f"  {choice}: {row['score']} at {row['bpw']} bpw", flush=True)
    return {
        "metric": setup.task.metric,
        "samples": len(samples),
        "full": full,
        "uniform": uniform,
    }


def components(setup: Setup, bench: Workbench) -> dict[str, float]:
    """Score with one component at 2 bits, the others at 16."""
    found = {}
    for component in COMPONENTS:
        changes = {
            group.key: Choice(2, "uniform")
            for group in setup.space.spec.groups
            if group.component == component
        }
        allocation = setup.space.full.replace(changes)
        score = bench.score(allocation, setup.samples["evaluation"]).mean
        found[component] = round(score, 2)
        print(f"  {component} alone at 2 bits: {found[component]}", flush=True)
    return found


def verdicts(found: dict[str, Any]) -> dict[str, bool]:
    """The demands on an embedded model, each met or not."""
    full = found["full"]["score"]
    at = {(row["bits"], row["method"]): row["score"] for row in found["uniform"]}
    losses = [full - score for score in found["component at 2 bits"].values()]
    plain = {bits: at[bits, "uniform"] for bits in (2, 3, 4, 8)}
    gains = [
        at[bits, method] - plain[bits] for bits in (2, 3) for method in ("gptq", "awq")
    ]
    sizes = sorted({row["bpw"] for row in found["uniform"]})
    below = max(size for size in sizes if size <= 4.0)
    return {
        "full precision at least 85": full >= 85,
        "8 bits within 1 point": full - plain[8] <= 1,
        "4 bits lose at most 8": full - plain[4] <= 8,
        "3 bits lose 4 more than 4 bits": plain[4] - plain[3] >= 4,
        "2 bits lose at least 35": full - plain[2] >= 35,
        "components differ by 10 at 2 bits": max(losses) - min(losses) >= 10,
        "gptq or awq gain 5 at 2 or 3 bits": max(gains) >= 5,
        "4.0 bpw is 0.2 above a uniform size": 4.0 - below >= 0.2,
    }


def survey(model: str) -> dict[str, Any]:
    """Everything about one embedded model, by task."""
    found: dict[str, Any] = {}
    for task in available("evals.tasks"):
        try:
            setup = prepare(StudySpec(budget="16", task=task, model=model))
        except SpecError as refusal:
            print(f"{model}, {task}: {refusal}", flush=True)
            continue
        bench = open_bench(setup, Bars())
        found[task] = scores(setup, bench)
        if task == "vqav2":
            found[task]["component at 2 bits"] = components(setup, bench)
            found[task]["verdicts"] = verdicts(found[task])
            for demand, met in found[task]["verdicts"].items():
                print(f"  {'met' if met else 'NOT MET'}: {demand}")
    return found


def table(found: dict[str, Any]) -> str:
    """Scores of all models and tasks as Markdown."""
    heads = ["model", "task", "16"]
    heads += [f"{bits} {METHODS[m]}" for bits in SHOWN for m in METHODS]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for model, tasks in found.items():
        for task, result in tasks.items():
            at = {(r["bits"], r["method"]): r["score"] for r in result["uniform"]}
            row = [at[bits, method] for bits in SHOWN for method in METHODS]
            cells = [f"{value:.2f}" for value in (result["full"]["score"], *row)]
            lines.append(f"| {model} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line and survey the models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["tiny-blip2", "tiny-llava"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return
    found = {model: survey(model) for model in options.models}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
