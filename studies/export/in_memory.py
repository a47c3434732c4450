"""What exported models take in memory, before they run and behind it.

    python -m studies.export.in_memory

Random models, all linears below 16 bits at 2 to 8 bits in turn, groups of 128; loaded
as their cards say, by transformers with auto-round and with compressed-tensors, where
these are installed. Bytes are those of parameters and buffers, each once.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.exporters import exporter_of
from allocator.exporters._export import Export
from allocator.families._checkpoint import quiet
from tests.exporters.models import KINDS, checkpoint_of, random_model, some_samples

if TYPE_CHECKING:
    from allocator.exporters._checkpoint import Checkpoint

FORMATS = {"auto-round": "auto_round", "compressed-tensors": "compressed_tensors"}
SIZES = (256, 512)
HEAD = ("model", "fp16", "format", "on disk", "loaded", "behind a forward pass")


def loaded_bytes(module: torch.nn.Module) -> int:
    """Bytes of parameters and buffers, each once."""
    held = {t.data_ptr(): t for t in chain(module.parameters(), module.buffers())}
    return sum(tensor.nbytes for tensor in held.values())


def measured(made: Checkpoint, fmt: str, out: Path) -> tuple[int, int, int]:
    """Bytes on disk, loaded, and behind a forward pass."""
    exporter: Any = exporter_of(fmt)
    export = Export({"scheme": {}}, lambda: made)
    out.mkdir()
    exporter.check(export)
    exporter.write(export, out, lambda _done, _all: None)
    with quiet():
        module = type(made.model.module).from_pretrained(out)
    before = loaded_bytes(module)
    inputs = made.model.inputs(made.samples[:1])
    given = {
        key: value.to(module.dtype) if value.is_floating_point() else value
        for key, value in inputs.items()
    }
    with torch.no_grad():
        module(**given)
    return exporter.stored(out), before, loaded_bytes(module)


def main() -> None:
    """Print the table."""
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for kind in KINDS:
        for width in SIZES:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                random_model(folder / "source", kind, width)
                samples = some_samples(folder / "pictures", 1)
                made = checkpoint_of(folder / "source", samples=samples)
                plain = 2 * made.spec.parameters
                for fmt, module in FORMATS.items():
                    if find_spec(module) is None:
                        continue
                    found = measured(made, fmt, folder / fmt)
                    row = [f"{kind}, {width}", f"{plain:,}", fmt]
                    row += [f"{each:,} ({each / plain:.0%})" for each in found]
                    print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
