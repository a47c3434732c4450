"""Every format times models: bytes claimed and on disk, and what comes back.

    python -m studies.export.table --out studies/results/export_table.json

It also writes `table.md` here.

Random LLaVA, Qwen2.5-VL and Qwen3-VL of 256 and 512 wide and a random BLIP-2, as
published and as transformers 5 saves them, all linears below 16 bits by rounding, the
widths of the format's target in turn; written as `allocate export` writes, so that each
is loaded again by the runtime that is there and compared. What is refused is told in
the sentence of the refusal. Runtimes that do not live with the project are named by
`ALLOCATE_MLX_PYTHON`; rows already in the file, of other formats, are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import Scheme, stored_size
from allocator.core.errors import AllocateError
from allocator.core.plugins import load
from allocator.core.targets import target_of
from allocator.core.watch import Silent
from allocator.exporters import exporter_of
from allocator.exporters._driver import write_export
from allocator.exporters._export import Export
from allocator.families import scale_type
from quant.files import replace_file
from tests.exporters.llama_cpp import save_model
from tests.exporters.models import KINDS, checkpoint_of, random_model, some_samples
from tests.families.parts import PARTS
from tests.families.processors import two_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.ports import Sample

TARGET_OF = {
    "compressed-tensors": "transformers",
    "auto-round": "transformers",
    "mlx": "mlx",
    "gguf": "llama.cpp",
}
SAMPLES = 8


@dataclass(frozen=True)
class Case:
    """A model in a folder, and what it is asked."""

    name: str
    folder: Path
    samples: tuple[Sample, ...]


def cases(root: Path) -> Iterator[Case]:
    """Random models, one at a time."""
    asked = tuple(some_samples(root / "pictures", SAMPLES))
    for kind in KINDS:
        for width, form, dtype in (
            (256, "hub", torch.float16),
            (256, "transformers5", torch.bfloat16),
            (512, "hub", torch.float32),
        ):
            name = f"{kind}, {width} wide, {form}, {str(dtype).removeprefix('torch.')}"
            folder = root / name
            if form == "hub" and kind != "llava":
                # with a tokenizer that llama.cpp's converter knows
                save_model(folder, kind, width, dtype)
            else:
                random_model(folder, kind, width, form, dtype)
            yield Case(name, folder, asked)
    folder = root / "blip2"
    family = load("allocator.families", "blip2")
    family.tiny(folder, "opt")
    PARTS["blip2"](folder, "opt")
    yield Case("blip2 (opt), 32 wide", folder, tuple(two_samples(root)))


def row(fmt: str, case: Case, root: Path) -> dict[str, Any]:
    """Export, and what is found; or the sentence of the refusal."""
    target = target_of(TARGET_OF[fmt])
    scheme = Scheme(
        target.group_sizes[0],
        target.symmetries[0],
        scale_type(case.folder),
        target.name,
    )
    made = checkpoint_of(
        case.folder, target.widths, scheme=scheme, samples=case.samples
    )
    plan = {
        "model": case.name,
        "scheme": scheme.to_json(),
        "groups": made.allocation.to_json(),
    }
    export = Export(plan, lambda: made)
    exporter = exporter_of(fmt)
    out = root / f"{case.folder.name} as {fmt}"
    found: dict[str, Any] = {"format": fmt, "model": case.name, "target": target.name}
    try:
        done = write_export(export, exporter, out, fmt=fmt, watch=Silent())
    except AllocateError as error:
        return {**found, "refused": str(error).replace(f"{root}/", "")}
    layout = exporter.layout(export)
    claimed = stored_size(made.spec, made.scheme, made.allocation, layout).model_bytes
    tensors = [*out.glob("*.safetensors"), *out.glob("*.gguf")]
    kept = ("bpw", "loader", "linears", "weights", "logits", "seconds")
    return {
        **found,
        "claimed": claimed,
        "stored": done["bytes"],
        "files": sum(file.stat().st_size for file in tensors),
        **{name: done.get(name) for name in kept},
    }


def told(each: dict[str, Any]) -> str:
    """A row of the table in words."""
    start = f"| {each['format']} | {each['model']} |"
    if "refused" in each:
        return f"{start} | | | | | | refused: {each['refused']} |"
    sizes = f"{each['claimed']:,} | {each['stored']:,} | {each['bpw']:.3f}"
    logits = "not compared" if each["logits"] is None else f"{each['logits']:.1e}"
    seconds = sum(each["seconds"].values())
    close = f"{each['weights']:g} | {logits} | {seconds:.1f} | {each['loader']}"
    return f"{start} {sizes} | {close} |"


def rendered(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    head = ("format", "model", "bytes claimed", "on disk", "bpw", "weights", "logits")
    head = (*head, "s", "loader")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *map(told, rows)]) + "\n"


def keep(rows: list[dict[str, Any]], out: Path) -> None:
    """Write what there is, format by format: as JSON, and the table."""
    ordered = sorted(rows, key=lambda each: list(TARGET_OF).index(each["format"]))
    text = json.dumps(ordered, indent=1) + "\n"
    replace_file(out, lambda draft: draft.write_text(text))
    table = Path(__file__).with_suffix(".md")
    replace_file(table, lambda draft: draft.write_text(rendered(ordered)))


def parsed() -> argparse.Namespace:
    """What is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--formats", default=",".join(TARGET_OF))
    return parser.parse_args()


def main() -> None:
    """Every format asked for on every model; the file grows row by row."""
    asked = parsed()
    formats = asked.formats.split(",")
    before = json.loads(asked.out.read_text()) if asked.out.exists() else []
    rows = [each for each in before if each["format"] not in formats]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for case in cases(root):
            for fmt in formats:
                rows.append(row(fmt, case, root))
                print(json.dumps(rows[-1]), flush=True)
                keep(rows, asked.out)


if __name__ == "__main__":
    main()
