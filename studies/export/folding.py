"""What folding AWQ's scales costs: logits and scores of the embedded models.

Cells of a bank with their scales aside, the same with scales folded and all in 16 bits,
and the allocation finalized, which is measured as folded. In fp16 as the models are
stored, and in bf16, whose steps are 8 times as wide. It takes four minutes.

    python studies/export/folding.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from allocator.bench.finalize import finalize, score_finalized
from allocator.bench.folded import fold_difference, folded_of
from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.core.allocation import Allocation, Choice
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.embedded import model_folder
from evals.world.files import ensure_world

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = ("tiny-llava", "tiny-blip2")
WIDTHS = (2, 3, 4, 8)


def main() -> None:
    """Print a line for each model, type and width."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for kind in ("CACHE", "DATA"):
            os.environ[f"XDG_{kind}_HOME"] = str(home)
        world = ensure_world(home)
        print("model\ttype\tbits\tlogits\tbank\tfolded\tfinalized", flush=True)
        for model in MODELS:
            for folder in (model_folder(model), in_bfloat16(model, home / model)):
                for row in rows(folder, world):
                    print(model, *row, sep="\t", flush=True)


def in_bfloat16(model: str, target: Path) -> Path:
    """A copy of an embedded model that is stored in bf16."""
    shutil.copytree(model_folder(model), target)
    for file in target.glob("*.safetensors"):
        half = {name: value.bfloat16() for name, value in load_file(file).items()}
        save_file(half, file, {"format": "pt"})
    config = target / "config.json"
    config.write_text(config.read_text().replace('"float16"', '"bfloat16"'))
    return target


def rows(folder: Path, world: Path) -> Iterator[tuple[object, ...]]:
    """Type, width, relative difference of logits, and three scores of 500 questions."""
    asked = StudySpec(
        "16",
        "vqav2",
        model=str(folder),
        data=str(world),
        methods=("awq",),
        widths=(*WIDTHS, 16),
        calibration=64,
        fraction=0.25,
        device="cpu",
    )
    setup = prepare(asked)
    bench = open_bench(setup, Silent())
    mapped = setup.family.load(setup.folder, "cpu", mapped=True)
    samples = setup.samples["evaluation"]
    assert bench.bank is not None
    for bits in WIDTHS:
        allocation = Allocation.uniform(setup.model, Choice(bits, "awq"))
        folded = folded_of(setup, allocation, bench.bank, mapped)
        moved = fold_difference(bench, folded, allocation, setup.samples["calibration"])
        scores = [bench.score(allocation, samples).mean]
        with bench.under(folded) as other:
            scores.append(other.score(allocation, samples).mean)
        weights = finalize(setup, allocation, Silent())
        scores.append(score_finalized(bench, weights, allocation, samples)[0].mean)
        rounded = (f"{score:.2f}" for score in scores)
        yield (setup.scheme.scales, bits, f"{moved:.1e}", *rounded)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
