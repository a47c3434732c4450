r"""How long searches take that were given a time: limit, taken, ratio.

Each search runs alone, in a process and in folders of its own, so that it has no bank
and no study to begin with; with `--again` another budget of that study follows each.
Seconds are those of the whole process, seen from outside. Where other programs take
turns with it, `--clock cpu` lets its clocks count the seconds that it was served, and
counts these from outside too: with one thread, what an idle machine would take.

    OMP_NUM_THREADS=1 python studies/scale/time_limits.py --folder /tmp/timed \
        --clock cpu --again --out studies/results/limits_time.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODELS = ("tiny-blip2", "tiny-llava")
# seconds
LIMITS = (30.0, 60.0, 90.0, 120.0)
FIRST, SECOND = "4.0", "3.5"
# the command, its clocks counting the seconds that the process was served
SERVED = """
import time
from allocator.core.clock import Clock
Clock.__init__ = lambda self: setattr(self, "started", time.process_time())
Clock.seconds = property(lambda self: time.process_time() - self.started)
from allocator.cli.search import main
main()
"""
# it ends with this code as soon as nothing can be recommended in time
NOT_REACHED = 3


def served() -> float:
    """Seconds that ended children were served by processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def searched(
    folder: Path, model: str, limit: float, budget: str, clock: str
) -> dict[str, Any]:
    """One search under a limit, as plain data."""
    start = ("-m", "allocator.cli") if clock == "wall" else ("-c", SERVED)
    command = [
        *(sys.executable, *start, "--budget", budget, "--json"),
        *("--task", "vqav2", "--model", model, "--time", f"{limit:g}s"),
    ]
    now = time.monotonic if clock == "wall" else served
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    load, started = os.getloadavg()[0], now()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    taken = now() - started
    if done.returncode not in (0, NOT_REACHED):
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr}")
    told = json.loads(done.stdout) if done.returncode == 0 else None
    cut = ("no time", "time limit")
    return {
        **{
            "clock": clock,
            "model": model,
            "budget": budget,
            "limit": limit,
            "taken": taken,
        },
        **{"ratio": taken / limit, "code": done.returncode, "load": load},
        "seconds": told["cost"]["seconds"] if told else None,
        "said": [x for x in done.stderr.splitlines() if any(c in x for c in cut)],
    }


def row(found: dict[str, Any]) -> str:
    """A line of a table."""
    what = "nothing in time" if found["code"] else "; ".join(found["said"]) or "all"
    return (
        f"| {found['model']} | {found['budget']} | {found['limit']:g} | "
        f"{found['taken']:.1f} | {found['ratio']:.2f} | {what} |"
    )


def main() -> None:
    """Search under each limit, print and keep what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for what is made")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--limits", nargs="+", type=float, default=LIMITS)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = []
    print("| model | bpw | limit, s | taken, s | ratio | left out |")
    print("|---|---|---|---|---|---|", flush=True)
    for model in asked.models:
        for limit in asked.limits:
            folder = asked.folder / f"{model}-{limit:g}"
            for budget in (FIRST, SECOND)[: 1 + asked.again]:
                found.append(searched(folder, model, limit, budget, asked.clock))
                print(row(found[-1]), flush=True)
                if asked.out:
                    asked.out.write_text(json.dumps(found, indent=1) + "\n")
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
