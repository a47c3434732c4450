"""Rules of one line as rivals: tables over single linears, an exact knapsack on each.

    python -m studies.rivals.rules --model tiny-llava

writes the widths that each rule gives every linear within each budget, for GPTQ and AWQ
throughout, as a tool's script does. The tables are the program's own
(`allocator/bench/`), of the same 128 calibration samples that the tools see.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.bench.probes import damages
from allocator.bench.sensitivity import sensitivity
from allocator.core.allocation import FULL, WIDTHS, Choice
from allocator.core.spec import part_of
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.space.even_mix import even_mix
from allocator.space.model import within
from allocator.strategies._knapsack import knapsack
from studies.rivals.case import BUDGETS, LOW, METHODS, MODELS, RESULTS, TASK
from studies.rivals.case import write as keep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.bench.prepare import Setup
    from allocator.core.spec import Linear
    from allocator.space.model import ModelSpace

    Table = Mapping[tuple[str, Choice], float]
    Widths = dict[str, int]


def tables(setup: Setup) -> tuple[ModelSpace, dict[str, Table], dict[str, float]]:
    """The space of single linears, a table for each rule, and processor seconds."""
    fine = setup.space.by_linear()
    bench = open_bench(setup, Silent()).over(fine.spec)
    samples = setup.samples["calibration"]
    choices = [Choice(bits, method) for method in METHODS for bits in LOW]
    wanted = [*choices, Choice(FULL)]
    since = time.process_time()
    kl = damages(bench, samples, wanted)
    probed = time.process_time() - since
    both = sensitivity(bench, samples, wanted)
    passed = time.process_time() - since - probed
    found: dict[str, Table] = {
        "kl knapsack": kl,
        "fisher knapsack": both.fisher,
        "error knapsack": both.relative_error,
    }
    seconds = {"kl knapsack": probed, "fisher knapsack": passed}
    return fine, found, {**seconds, "error knapsack": passed}


def throughout(space: ModelSpace, method: str, bpw: float) -> ModelSpace:
    """A space of single linears under a budget, by one method throughout."""
    own = tuple(c for c in space.choices if c.method in (method, None))
    return replace(within(space, bpw), choices=own).by_linear()


def widths(allocation: Any, space: ModelSpace) -> Widths:
    """Bits of every linear."""
    chosen = allocation.of_linears(space.spec)
    return {name: choice.bits for name, choice in chosen.items()}


def language_end(
    linears: Sequence[Linear], costs: Mapping[str, Mapping[int, int]], room: float
) -> Widths:
    """Everything at a width, the language model's last third as high as there is room.

    It is raised a width at a time, from its end to its beginning.

    Args:
        linears: of the whole model.
        costs: stored bytes of each at each width.
        room: bytes that they may take.
    """
    base = max(b for b in WIDTHS if sum(own[b] for own in costs.values()) <= room)
    found = {linear.name: base for linear in linears}
    left = room - sum(own[base] for own in costs.values())
    language = [x for x in linears if x.component == "language" and x.block is not None]
    blocks = 1 + max(x.block for x in language if x.block is not None)
    end = [x.name for x in language if part_of(x.block or 0, blocks) in ("end", "all")]
    for bits in WIDTHS[WIDTHS.index(base) + 1 :]:
        for name in reversed(end):
            more = costs[name][bits] - costs[name][found[name]]
            # a width is not passed over: later ones cost more still
            if more <= left:
                found[name], left = bits, left - more
    return found


def run(model: str) -> list[dict[str, Any]]:
    """What every rule gives a model."""
    setup = prepare(StudySpec("5.2", TASK, model=model))
    fine, known, seconds = tables(setup)
    costs = {g.linears[0].name: fine.group_bytes[g.key] for g in fine.spec.groups}
    found = []
    for system in (*known, "even mix", "language end"):
        bits: dict[float, Any] = {}
        for bpw in BUDGETS:
            own = {m: throughout(setup.space, m, bpw) for m in METHODS}
            if system == "language end":
                bits[bpw] = language_end(fine.spec.linears, costs, own["gptq"].room)
                continue
            bits[bpw] = {
                method: widths(
                    even_mix(space, method)
                    if system == "even mix"
                    else knapsack(space, known[system]),
                    space,
                )
                for method, space in own.items()
            }
        spent = seconds.get(system, 0.0)
        found.append({"system": system, "model": model, "seconds": spent, "bits": bits})
    return found


def main() -> None:
    """Write a file for each rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    for found in run(asked.model):
        slug = found["system"].replace(" ", "_")
        keep(asked.out / f"{asked.model}-{slug}.json", found)


if __name__ == "__main__":
    main()
