"""CPU seconds of finalizing an allocation, alone and after one that differs a little.

    python -m studies.search.finalizing --model tiny-llava --method gptq

Widths 3 and 4 in turn. Then one group gets 2 bits: of the last, middle and first
language blocks, and of vision. Times are of one thread, the least of three; stages are
those that were quantized.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from allocator.bench.finalize import finalize
from allocator.bench.prepare import prepare
from allocator.core.allocation import Allocation, Choice
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from quant.passes import Passes

GROUPS = ("language.end.ff", "language.middle.attn", "language.front.attn")
SWITCHES = (*GROUPS, "vision.middle.attn", "vision.front.attn")
TIMES = 3


def main() -> None:
    """Print a line for each switch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-llava")
    parser.add_argument("--method", default="gptq")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    spec = StudySpec("4.0", "vqav2", model=asked.model)
    setup = prepare(spec, ("calibration",), Silent())
    keys = [group.key for group in setup.model.groups]
    choices = {key: Choice(3 + at % 2, asked.method) for at, key in enumerate(keys)}
    low = Choice(2, asked.method)
    switched = {key: choices | {key: low} for key in SWITCHES}
    least: dict[str, tuple[float, int]] = {}
    for _ in range(TIMES):
        passes = Passes()
        with tempfile.TemporaryDirectory() as home:
            # what is there would only be opened
            os.environ["XDG_DATA_HOME"] = str(Path(home))
            for name, own in {"alone": choices, **switched}.items():
                begun, before = time.process_time(), passes.stages
                allocation = Allocation(tuple(sorted(own.items())))
                finalize(setup, allocation, Silent(), passes=passes)
                spent = time.process_time() - begun
                stages = passes.stages - before
                least[name] = min(least.get(name, (spent, stages)), (spent, stages))
    for name, (spent, stages) in least.items():
        print(f"{asked.model} {asked.method} {name}: {spent:.2f} s, {stages} stages")


if __name__ == "__main__":
    main()
