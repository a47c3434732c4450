"""Which models mlx-vlm computes as transformers does, once they are written for it.

    ALLOCATE_MLX_PYTHON=PYTHON python -m studies.export.mlx --out studies/export/mlx.md

Random models, all linears below 16 bits at 2 to 8 bits in turn, groups of 64 or 128: of
each family and variant the tiny one, and LLaVA, Qwen2.5-VL and Qwen3-VL of 256 and 512
wide; the embedded tiny-llava at 4 and 8 bits. Weights are those mlx-vlm has after
loading; logits are those behind two prompts, of the inputs that the model here gets, in
float32 and as mlx-vlm computes by itself (activations in 16 bits); replies are of 50
questions of the drawn world, asked as the card does. What the exporter refuses is
written here all the same, to see why.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import Scheme, stored_size
from allocator.core.errors import AllocateError
from allocator.core.plugins import available, load
from allocator.core.ports import Decoding, Selection
from allocator.embedded import model_folder
from allocator.exporters import _mlx_models as models
from allocator.exporters._export import Export
from allocator.exporters._loaded import next_logits
from allocator.exporters._mlx_reopened import InRuntime, runtime_python
from allocator.exporters.mlx import PLUGIN
from evals.world.files import ensure_world
from tests.exporters.models import KINDS, checkpoint_of, random_model, some_samples
from tests.exporters.test_mlx import holding
from tests.families.parts import PARTS
from tests.families.processors import two_samples
from tests.states import made, prefixed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.ports import Sample
    from allocator.exporters._checkpoint import Checkpoint

HEAD = ("model", "refused", "linears", "bytes", "bpw", "weights", "logits, float32")
HEAD = (*HEAD, "logits, as loaded", "range", "replies", "written s", "checked s")
# where mlx-vlm would have the parts of what is refused
SMOL = (("model.text_model.", "language_model."), models.HEAD, ("model.", ""))
PLAIN = (models.TEXT, models.HEAD, ("model.", ""))
TRIED = {
    "gemma3": models.LLAVA,
    "idefics3": SMOL,
    "smolvlm": SMOL,
    "internvl": PLAIN,
    "llava_next": models.LLAVA,
}
REPLIES = """
import json, sys
from PIL import Image
from mlx_vlm import generate, load
model, processor = load(sys.argv[1])
for picture, prompt in json.load(open(sys.argv[2])):
    asked = processor(images=[Image.open(picture)], text=prompt)
    more = {"mask": asked["attention_mask"], "temperature": 0.0, **asked}
    reply = generate(model, processor, "", max_tokens=10, **more)
    print(json.dumps(reply.text.strip()))
"""


@dataclass(frozen=True)
class Case:
    """A checkpoint, and prompts for it."""

    name: str
    folder: Path
    samples: tuple[Sample, ...]
    group_size: int = 64
    widths: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    questions: tuple[Sample, ...] = ()


def cases(root: Path) -> Iterator[Case]:
    """All of them; the folders are made."""
    pictures = root / "pictures"
    pictures.mkdir()
    two = tuple(two_samples(pictures))
    for family in available("allocator.families"):
        plugin = load("allocator.families", family)
        for variant in plugin.variants:
            folder = root / f"{family}-{variant}"
            made(plugin, folder, variant)
            PARTS[family](folder, variant)
            yield Case(folder.name, folder, two)
    some = tuple(some_samples(pictures))
    for kind in KINDS:
        for width in (256, 512):
            folder = root / f"{kind}-{width}"
            random_model(folder, kind, width)
            yield Case(folder.name, folder, some, 128)
    world = ensure_world(root)
    asked = load("evals.tasks", "vqav2").samples(world, "search", Selection())[:50]
    tiny = model_folder("tiny-llava")
    yield Case("tiny-llava", tiny, asked[:8], 64, (4, 8), asked)


def measured(case: Case, out: Path) -> dict[str, Any]:
    """What is written of a case, and what mlx-vlm makes of it, by `HEAD`."""
    scheme = Scheme(case.group_size, target="mlx")
    checkpoint = checkpoint_of(
        case.folder, case.widths, scheme=scheme, samples=case.samples
    )
    export = Export({}, lambda: checkpoint)
    row: dict[str, Any] = {"linears": len(checkpoint.low), "refused": "no"}
    try:
        PLUGIN.check(export)
    except AllocateError:
        row["refused"] = "yes"
        kind = checkpoint.config.model_type
        if kind not in TRIED:
            return row
        models.KNOWN[kind] = models.Known(TRIED[kind])
    before = time.monotonic()
    PLUGIN.write(export, out, lambda _, __: None)
    row["written s"] = round(time.monotonic() - before, 1)
    size = stored_size(checkpoint.spec, scheme, checkpoint.allocation, "mlx")
    assert PLUGIN.stored(out) == size.model_bytes
    row |= {"bytes": size.model_bytes, "bpw": round(size.bpw(), 3)}
    before = time.monotonic()
    row |= compared(checkpoint, PLUGIN.reopen(export, out))
    row["checked s"] = round(time.monotonic() - before, 1)
    if case.questions:
        row["replies"] = replies(checkpoint, case, out)
    return row


def compared(checkpoint: Checkpoint, opened: Any) -> dict[str, Any]:
    """Largest differences of weights and of logits."""
    assert isinstance(opened, InRuntime)
    weights = [
        float((opened.weight(name) - checkpoint.weight(name)).abs().max())
        for name in checkpoint.low
    ]
    ours = next_logits(holding(checkpoint), checkpoint.samples)
    row = {"weights": max(weights), "range": round(float(ours.max() - ours.min()), 2)}
    for column, dtype in (("as loaded", ""), ("float32", "float32")):
        theirs = opened.logits(checkpoint.samples, dtype)
        row[f"logits, {column}"] = f"{float((theirs - ours).abs().max()):.1e}"
    return row


def replies(checkpoint: Checkpoint, case: Case, out: Path) -> str:
    """How many replies in mlx-vlm are those of the model here."""
    model = holding(checkpoint)
    ours = []
    with torch.inference_mode():
        for sample in case.questions:
            state = prefixed(model, model.inputs([sample]))
            ours += model.predict([state], [sample], Decoding(10), lambda _: None)
    asked = [(str(each.image), model.worded(each)) for each in case.questions]
    (out / "asked.json").write_text(json.dumps(asked))
    told = subprocess.run(
        [str(runtime_python()), "-c", REPLIES, str(out), str(out / "asked.json")],
        check=True,
        capture_output=True,
        text=True,
    )
    theirs = [json.loads(line) for line in told.stdout.splitlines()]
    return f"{sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(ours)}"


def main() -> None:
    """Measure all, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            out = Path(tempfile.mkdtemp(dir=folder))
            try:
                row = measured(case, out)
            except Exception as error:
                said = str(error).replace(str(out), "the folder")
                row = {"refused": "yes", "weights": " ".join(said.split())[-160:]}
            row["model"] = case.name
            lines.append(f"| {' | '.join(str(row.get(k, '')) for k in HEAD)} |")
            print(lines[-1], flush=True)
            args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
