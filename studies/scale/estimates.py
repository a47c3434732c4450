"""Estimates of a search beside what it then took: counts, memory and seconds.

    python -m studies.scale.estimates [--only tiny-blip2] [--out FILE]

Each case is asked for twice, by the command line in processes of their own, with
nothing kept from before: `--dry-run --json`, then the search itself. Both embedded
models search as the README has it. A LLaVA of 0.3 B random weights (`tests.models.MID`)
is asked twice for little, on a few questions of the drawn world: once for a bank by
GPTQ, once for finalized weights by rounding. Wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from allocator.bench.loading import open_full_precision
from allocator.bench.prepare import prepare
from allocator.core.study import StudySpec
from evals.world.files import ensure_world
from tests.models import MID, save_llava

OUT = Path("studies/results/estimates.json")
# questions that the mid-size model is asked: with so few there are no rungs
SEARCHED, EVALUATED = 12, 16
QUESTIONS, SPLITS = "v2_OpenEnded_mscoco_val2014_questions.json", "splits.json"
ANSWERS = "v2_mscoco_val2014_annotations.json"
LITTLE = (
    *("--budget", "3.6", "--budget-scope", "quantized", "--widths", "3,4"),
    *("--granularity", "component", "--calibration", "4", "--trials", "1"),
    *("--no-refine", "--no-tune"),
)


@dataclass(frozen=True)
class Case:
    """One request, by its name."""

    name: str
    options: tuple[str, ...]
    is_mid: bool = False


CASES = (
    Case("tiny-blip2", ("--budget", "4.0")),
    Case("tiny-llava", ("--budget", "3.5", "--model", "tiny-llava")),
    Case("mid, bank", ("--methods", "gptq", "--no-finalize", *LITTLE), is_mid=True),
    Case("mid, finalized", ("--methods", "uniform", *LITTLE), is_mid=True),
)


@dataclass(frozen=True)
class Row:
    """A figure of a case: estimated and taken."""

    case: str
    figure: str
    estimated: float
    taken: float

    @property
    def line(self) -> str:
        """For the terminal, with the estimate over what was taken."""
        ratio = f"{self.estimated / self.taken:.2f}" if self.taken else ""
        figures = f"{self.estimated:16,.0f}{self.taken:16,.0f}"
        return f"{self.case:16}{self.figure:28}{figures}{ratio:>8}"


def compared(case: Case, folder: Path, mid: Path, data: Path) -> list[Row]:
    """Estimate a search, run it, and put the figures beside one another."""
    options = ["--task", "vqav2", *case.options]
    if case.is_mid:
        options += ["--model", str(mid), "--data", str(data)]
    home = {"XDG_DATA_HOME": str(folder / case.name.replace(" ", "-"))}
    foreseen = _asked([*options, "--dry-run"], home)
    found = _asked(options, home)["cost"]
    total, tokens = foreseen["total"], foreseen["tokens"]
    pairs = {
        **{name: (total[name], found[name]) for name in ("scored", "looked", "swaps")},
        "weights swapped": (total["swapped"], found["weights_swapped"]),
        **{f"{k} tokens": (tokens[k], found["tokens"][k]) for k in tokens},
        "host bytes": (foreseen["bytes"]["host"], found["peak_memory"]["host"]),
        "seconds": (foreseen["seconds"]["total"], sum(found["seconds"].values())),
        **_by_part(foreseen["seconds"], found["seconds"]),
    }
    return [Row(case.name, name, *pair) for name, pair in pairs.items()]


def _by_part(
    foreseen: dict[str, float], taken: dict[str, float]
) -> dict[str, tuple[float, float]]:
    """Seconds of the parts that both have a name for."""
    names = [name for name in foreseen if name in taken]
    return {f"seconds of {name}": (foreseen[name], taken[name]) for name in names}


def _asked(options: list[str], home: dict[str, str]) -> dict[str, Any]:
    """What the command prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "allocator.cli", *options, "--json"],
        env={**os.environ, **home},
        stdout=subprocess.PIPE,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def few_questions(folder: Path, world: Path) -> Path:
    """The drawn world with only a few questions to search and evaluate on."""
    folder.mkdir()
    for each in world.iterdir():
        if each.name != SPLITS:
            (folder / each.name).symlink_to(each)
    by_image: dict[int, int] = {}
    for question in json.loads((folder / QUESTIONS).read_text())["questions"]:
        by_image.setdefault(question["image_id"], question["question_id"])
    ids = list(by_image.values())
    last = SEARCHED + EVALUATED
    splits = {"search": ids[:SEARCHED], "evaluation": ids[SEARCHED:last]}
    (folder / SPLITS).write_text(json.dumps(splits))
    return folder


def learn_by_heart(data: Path, model: Path) -> None:
    """Make what a model of random weights replies the answers: 0 would be refused."""
    asked = StudySpec("16", "vqav2", model=str(model), data=str(data))
    setup = prepare(asked)
    samples = (*setup.samples["search"], *setup.samples["evaluation"])
    replies = open_full_precision(setup).predictions(setup.space.full, samples)
    said = {s.id: each for s, each in zip(samples, replies, strict=True)}
    file = data / ANSWERS
    kept = json.loads(file.read_text())
    for each in kept["annotations"]:
        for answer in each["answers"]:
            answer["answer"] = said.get(str(each["question_id"]), answer["answer"])
    # it is a link to what others read
    file.unlink()
    file.write_text(json.dumps(kept))


def main() -> None:
    """Run all cases, or some, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    cases = [case for case in CASES if given.only in case.name]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # banks are made anew; pictures are drawn before anything is timed
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        world = ensure_world(folder / "cache" / "allocate")
        data, mid = few_questions(folder / "few", world), folder / "mid"
        if any(case.is_mid for case in cases):
            save_llava(mid, MID)
            learn_by_heart(data, mid)
        for case in cases:
            found = compared(case, folder, mid, data)
            rows += found
            sys.stdout.writelines(f"{row.line}\n" for row in found)
            sys.stdout.flush()
    given.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
