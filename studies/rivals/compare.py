"""Ours and every rival at equal stored bytes: a cell is a model and a budget.

    python -m studies.rivals.compare [--only MODEL BUDGET] [--work FOLDER]

Ours is what a search with default settings recommends, with the weights it recommends.
A rival's widths are carried over linear by linear, by GPTQ and by AWQ throughout,
finalized and learned alike, and the best on the search set is taken. Each is scored on
the evaluation set and on three fresh drawings, question by question. What is there is
not done again; `report.py` makes the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.bench.finalize import finalize, open_finalized
from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.core.allocation import FULL, Allocation, Choice
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.search.run import run as search
from quant.passes import Passes
from studies.rivals.case import BUDGETS, METHODS, MODELS, RESULTS, TASK
from studies.rivals.drawings import DRAWINGS, drawing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample

OURS = "allocate"
CELLS = RESULTS / "cells"
# fresh pictures, and a home for each cell under way
WORK = Path(tempfile.gettempdir()) / "allocate-rivals"


@dataclass(frozen=True)
class Entry:
    """An allocation with the weights that are scored; None: the bank's."""

    allocation: Allocation
    weights: Any = None
    kind: str = "bank"


@dataclass(frozen=True)
class Cell:
    """A model on the bench within a budget, and the questions it is scored on."""

    setup: Setup
    bench: Workbench
    samples: Mapping[str, Sequence[Sample]]
    passes: Passes = field(default_factory=Passes)

    @staticmethod
    def of(model: str, bpw: float, work: Path, tune: bool | None) -> Cell:
        """Load what a cell needs; `tune` is that of a search."""
        setup = prepare(StudySpec(f"{bpw}", TASK, model=model, tune=tune))
        fresh = {
            f"fresh {number}": drawing(work / f"fresh-{number}", number)
            for number in DRAWINGS
        }
        samples = {"evaluation": setup.samples["evaluation"], **fresh}
        return Cell(setup, open_bench(setup, Silent()), samples)

    def values(self, entry: Entry, samples: Sequence[Sample]) -> tuple[float, ...]:
        """Scores of the samples, one by one, in percent."""
        if entry.weights is None:
            return self.bench.score(entry.allocation, samples).values
        with self.bench.under(entry.weights) as bench:
            return bench.score(entry.allocation, samples).values

    def ours(self) -> Entry:
        """What the search recommends."""
        found = search(self.setup.asked)
        if not found.finalized:
            return Entry(found.allocation)
        weights = open_finalized(found.finalized)
        return Entry(found.allocation, weights, "tuned" if found.tuned else "finalized")

    def rival(self, bits: dict[str, Any]) -> tuple[Entry, float]:
        """Widths of linears as well as they can be, and their score on the search set.

        Args:
            bits: of each linear; or those by each method.
        """
        best: tuple[float, Entry] | None = None
        for method in METHODS:
            own = self._allocation(bits.get(method, bits), method)
            for entry in self._weighed(own, ("bank", "finalized")):
                best = self._better(best, entry)
        assert best is not None
        if self.setup.asked.tunes(self.setup.model.parameters):
            for entry in self._weighed(best[1].allocation, ("tuned",)):
                best = self._better(best, entry)
        return best[1], best[0]

    def _allocation(self, bits: dict[str, int], method: str) -> Allocation:
        chosen = {
            name: Choice(width, None if width == FULL else method)
            for name, width in bits.items()
        }
        allocation = Allocation.from_linears(self.setup.model, chosen)
        assert self.setup.space.fits(allocation)
        return allocation

    def _weighed(self, allocation: Allocation, kinds: Sequence[str]) -> Iterator[Entry]:
        """An allocation with weights of some kinds."""
        for kind in kinds:
            weights = None
            if kind != "bank":
                weights = finalize(
                    self.setup,
                    allocation,
                    Silent(),
                    tuned=kind == "tuned",
                    passes=self.passes,
                )
            yield Entry(allocation, weights, kind)

    def _better(
        self, best: tuple[float, Entry] | None, entry: Entry
    ) -> tuple[float, Entry]:
        score = float(np.mean(self.values(entry, self.setup.samples["search"])))
        return (score, entry) if best is None or score > best[0] else best


def rivals_of(model: str) -> dict[str, dict[str, Any]]:
    """What is kept of each rival of a model, by its name."""
    files = sorted(RESULTS.glob(f"{model}-*.json"))
    read = [json.loads(file.read_text()) for file in files]
    return {each["system"]: each for each in read}


@dataclass
class Kept:
    """What was measured of a cell: values of each question, and how they came about."""

    model: str
    bpw: float
    values: dict[str, Any] = field(default_factory=dict)
    systems: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where the values are; the rest lies beside it."""
        return CELLS / f"{self.model}-{self.bpw}.npz"

    @staticmethod
    def of(model: str, bpw: float) -> Kept:
        """What is there."""
        kept = Kept(model, bpw)
        beside = kept.file.with_suffix(".json")
        if beside.exists():
            kept.systems = json.loads(beside.read_text())["systems"]
            kept.values = dict(np.load(kept.file))
        return kept

    def write(self) -> None:
        """Keep it; values first, for what is told of a system counts as its mark."""
        CELLS.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.file, **self.values)
        about = {"model": self.model, "bpw": self.bpw, "systems": self.systems}
        text = json.dumps(about, indent=1) + "\n"
        self.file.with_suffix(".json").write_text(text)


def note(
    kept: Kept, cell: Cell, name: str, entry: Entry, since: float, **more: Any
) -> None:
    """Score what a system came to, and keep it."""
    scored = {each: cell.values(entry, own) for each, own in cell.samples.items()}
    rows = [np.array(values, np.float32) for values in scored.values()]
    kept.values[name] = np.concatenate(rows)
    kept.systems[name] = {
        "bytes": cell.setup.space.size(entry.allocation).model_bytes,
        "weights": entry.kind,
        "scores": {s: round(float(np.mean(v)), 3) for s, v in scored.items()},
        "seconds": round(time.process_time() - since, 1),
        **more,
    }
    kept.write()
    fresh = float(np.mean(rows[1:]))
    print(f"{kept.model} {kept.bpw}: {name} {fresh:.2f} ({entry.kind})", flush=True)


def run_cell(kept: Kept, work: Path, tune: bool | None) -> None:
    """Measure what is missing of a cell."""
    rivals = rivals_of(kept.model)
    missing = [name for name in (OURS, *rivals) if name not in kept.systems]
    if not missing:
        return
    home = work / f"{kept.model}-{kept.bpw}"
    shutil.rmtree(home, ignore_errors=True)
    os.environ["XDG_DATA_HOME"] = str(home)
    cell = Cell.of(kept.model, kept.bpw, work, tune)
    for name in missing:
        since = time.process_time()
        if name == OURS:
            entry = cell.ours()
            chosen = entry.allocation.of_linears(cell.setup.model)
            plain = {linear: str(choice) for linear, choice in chosen.items()}
            note(kept, cell, name, entry, since, choices=plain)
            continue
        entry, found = cell.rival(rivals[name]["bits"][f"{kept.bpw}"])
        method = next(c.method for _, c in entry.allocation if c.method)
        note(kept, cell, name, entry, since, method=method, search=round(found, 3))
    shutil.rmtree(home)


def main() -> None:
    """Measure all cells that are not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs=2, metavar=("MODEL", "BUDGET"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--again", nargs="*", default=[], help="systems to do anew")
    parser.add_argument("--no-tune", action="store_true", help="weights as finalized")
    asked = parser.parse_args()
    cells = [(model, bpw) for bpw in BUDGETS for model in asked.models]
    if asked.only:
        cells = [(asked.only[0], float(asked.only[1]))]
    for model, bpw in cells:
        kept = Kept.of(model, bpw)
        for name in asked.again:
            kept.systems.pop(name, None)
        run_cell(kept, asked.work, False if asked.no_tune else None)


if __name__ == "__main__":
    main()
