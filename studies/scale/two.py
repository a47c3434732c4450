"""Trials a minute of a search by one process, and by one that a worker helps.

    python studies/scale/two.py [--model tiny-blip2] [--trials 8] [--rounds 2]

Both take turns, each with one thread a process, on a machine with nothing else to do.
Every run has a bank that is made already, and a study of its own in SQLite; counted are
proposals, from the first that is done to the last: by then the worker is there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

# what begins behind the trials is left out
WORDS = (
    "--budget",
    "4.0",
    "--task",
    "vqav2",
    "--no-refine",
    "--no-tune",
    "--study",
    "s",
)
COMMAND = (sys.executable, "-m", "allocator.cli")


def searched(home: Path, model: str, trials: int, helpers: int) -> tuple[float, float]:
    """Trials a minute of one search; seconds that the whole command took."""
    url = f"sqlite:///{home}/s.db"
    (home / "s.db").unlink(missing_ok=True)
    shutil.rmtree(home / "data", ignore_errors=True)
    kept = {"XDG_DATA_HOME": f"{home}/data", "XDG_CACHE_HOME": f"{home}/cache"}
    surroundings = {**os.environ, **kept, "OMP_NUM_THREADS": "1"}
    words = (*WORDS, "--model", model, "--trials", str(trials), "--storage", url)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    since = time.monotonic()
    lead = subprocess.Popen((*COMMAND, *words), env=surroundings, **quiet)
    worker = ("worker", "--study", "s", "--storage", url, "--wait", "60s")
    others = [
        subprocess.Popen((*COMMAND, *worker), env=surroundings, **quiet)
        for _ in range(helpers)
    ]
    assert lead.wait() == 0
    whole = time.monotonic() - since
    for other in others:
        other.wait()
    study = optuna.load_study(study_name="s", storage=url)
    proposed = [t for t in study.trials if t.user_attrs["kind"] == "proposal"]
    done = sorted(t.datetime_complete for t in proposed if t.datetime_complete)
    return (len(done) - 1) / (done[-1] - done[0]).total_seconds() * 60, whole


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-blip2")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    with tempfile.TemporaryDirectory() as folder:
        searched(Path(folder), asked.model, 2, 0)
        for _ in range(asked.rounds):
            for helpers, own in found.items():
                own.append(searched(Path(folder), asked.model, asked.trials, helpers))
                print(helpers + 1, own[-1], flush=True)
    one, two = (statistics.median(rate for rate, _ in found[n]) for n in (0, 1))
    told = {
        "model": asked.model,
        "trials a minute": {"one": one, "two": two, "ratio": two / one},
        "runs": found,
    }
    print(json.dumps(told, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
