"""Kill a bank build (SIGKILL) at random moments, build on, and look for damage.

After each kill the finished cells are written down: their checksums, and the inode of
each file that is complete. In the next run none of them may be computed again: complete
files keep their inode, and the last build makes exactly what was missing. Then
`allocate bank verify` has to find nothing wrong.

    python studies/bank/kills.py --kills 20 | tee studies/results/bank_kills.log
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quant.cells import SUFFIX, stored_cells

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = (sys.executable, "-m", "allocator.cli", "bank")


@dataclass
class Trial:
    """A bank that is built, killed, and built on."""

    home: Path
    options: tuple[str, ...]
    cells: dict[tuple[str, str], str] = field(default_factory=dict)
    inodes: dict[str, int] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Homes of its own."""
        homes = {name: str(self.home) for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME")}
        return {**os.environ, **homes, "HF_HUB_OFFLINE": "1"}

    def run(self, *words: str) -> dict[str, Any]:
        """Run a bank command and read its JSON."""
        done = subprocess.run(
            [*COMMAND, *words, "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def kill(self, seconds: float) -> bool:
        """Start a build and kill it so long after its first look at the bank.

        Says whether it was killed; it ends by itself where nothing is left to make.
        """
        with subprocess.Popen(
            [*COMMAND, "build", *self.options],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            # "1,080 of 1,080 cells to make": from here on it builds
            if process.stderr.readline().startswith("0 of"):
                return False
            time.sleep(seconds)
            alive = process.poll() is None
            process.send_signal(signal.SIGKILL)
        return alive

    def look(self) -> list[str]:
        """Write down what is finished; says what of the last look has changed."""
        files = list(self.home.glob(f"allocate/bank/*/*{SUFFIX}"))
        stored = {file: stored_cells(file) for file in files}
        now = {
            (file.name, key): cell["sum"]
            for file, cells in stored.items()
            for key, cell in cells.items()
        }
        changed = [
            f"{name} {key}"
            for (name, key), sum_ in self.cells.items()
            if now.get((name, key)) != sum_
        ]
        inodes = {file.name: file.stat().st_ino for file in files}
        changed += [
            f"{name} was written again"
            for name, inode in self.inodes.items()
            if inodes.get(name) != inode
        ]
        self.cells = now
        self.inodes = {
            file.name: inodes[file.name]
            for file, cells in stored.items()
            if len(cells) == self.per_file
        }
        return changed

    @property
    def per_file(self) -> int:
        """Cells of a linear that is complete."""
        methods = self.options[self.options.index("--methods") + 1].split(",")
        widths = self.options[self.options.index("--widths") + 1].split(",")
        return len(methods) * len(widths)


def kill_and_build(
    home: Path,
    options: tuple[str, ...],
    kills: int,
    longest: float,
    seed: int,
    begin: Callable[[Path, tuple[str, ...]], Trial] = Trial,
) -> int:
    """Kill builds so many times, finish each bank, verify; returns the banks built.

    A bank that is finished before all kills are spent gives way to a fresh one, that
    `begin` makes of a home and options.

    Raises:
        RuntimeError: a finished cell was computed again, or is not whole.
    """
    chance, killed, banks = random.Random(seed), 0, 0
    while killed < kills:
        trial = begin(home / str(banks), options)
        banks += 1
        while killed < kills and trial.kill(seconds := chance.uniform(0, longest)):
            killed += 1
            before = len(trial.cells)
            changed = trial.look()
            print(
                f"kill {killed:>2}, bank {banks}, after {seconds:.2f} s: "
                f"{len(trial.cells):>5} cells finished, "
                f"{len(trial.cells) - before:>4} of them new, "
                f"{len(changed)} computed again",
                flush=True,
            )
            if changed:
                raise RuntimeError(f"finished cells changed: {changed[:5]}")
        _finish(trial)
    return banks


def _finish(trial: Trial) -> None:
    """Build what is missing, and check that it was only that."""
    trial.look()
    finished = len(trial.cells)
    built = trial.run("build", *trial.options)
    changed, verified = trial.look(), trial.run("verify")
    print(
        f"last build: {built['made']} of {built['cells']} cells made, {finished} were "
        f"there, {len(changed)} computed again; verify: {verified['cells']} cells, "
        f"{verified['damaged']} damaged",
        flush=True,
    )
    if changed or built["made"] + finished != built["cells"] or verified["damaged"]:
        raise RuntimeError(f"not whole: {changed[:5]} {built} {verified}")


def main() -> None:
    """Kill builds of an embedded model's bank, each at a random moment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="tiny-blip2")
    parser.add_argument("--methods", default="uniform,gptq,awq")
    parser.add_argument("--widths", default="2,3,4,5,6,8")
    parser.add_argument("--longest", type=float, default=1.5, help="seconds to a kill")
    asked = parser.parse_args()
    options = (
        *("--model", asked.model, "--task", "vqav2"),
        *("--methods", asked.methods, "--widths", asked.widths),
    )
    with tempfile.TemporaryDirectory() as home:
        kill_and_build(Path(home), options, asked.kills, asked.longest, asked.seed)


if __name__ == "__main__":
    main()
