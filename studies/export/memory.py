"""Anonymous memory of an export, of a checkpoint that is large beside it.

Takes the LLaVA that `studies.bank.large` writes (LLaVA-1.5-7B-wide, random weights,
fewer language blocks) and runs `allocate export --plan`, each format in a process of
its own whose anonymous memory (RssAnon) is read ten times a second. The first makes the
cells too. The bound is 0.35 S + 2 GB for a checkpoint of S bytes.

    python -m studies.export.memory --folder /tmp/large --formats compressed-tensors
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from evals.world.files import ensure_world
from studies.bank.large import watched, write_checkpoint

GROUPS = {"vision.all.all": 8, "connector.all.all": 3, "language.all.all": 4}
GRIDS = {
    "mlx": {"target": "mlx"},
    "gguf": {"group_size": 32, "symmetric": True, "target": "llama.cpp"},
}


def main() -> None:
    """Write the checkpoint, make its cells, export them, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="has 15 GB free")
    parser.add_argument("--blocks", type=int, default=7, help="of the language model")
    parser.add_argument("--formats", default="compressed-tensors")
    parser.add_argument("--keep", action="store_true", help="leave the exports there")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    model = asked.folder / "model"
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    size = size or write_checkpoint(model, asked.blocks)
    found: dict[str, Any] = {"checkpoint_bytes": size, "bound_bytes": 0.35 * size + 2e9}
    found["exports"] = []
    for name in asked.formats.split(","):
        found["exports"].append(exported(asked.folder, name, asked.keep))
        if asked.out:
            asked.out.write_text(json.dumps(found, indent=1) + "\n")
        last, bound = found["exports"][-1], found["bound_bytes"]
        print(
            f"{name}: {last['bytes'] / 1e9:.2f} GB, {last['wall']:,.0f} s, peak "
            f"RssAnon {last['peak']['RssAnon'] / 1e9:.2f} GB of {bound / 1e9:.2f} "
            f"({size / 1e9:.2f} GB checkpoint), read by {last['loader']}",
            flush=True,
        )


def exported(folder: Path, name: str, keep: bool) -> dict[str, Any]:
    """Figures of one format."""
    widths = {**GROUPS, "connector.all.all": 8} if name == "gguf" else GROUPS
    plan = {
        "model": str(folder / "model"),
        "task": "vqav2",
        "calibration": 2,
        "scheme": {"group_size": 128, "symmetric": False, **GRIDS.get(name, {})},
        "groups": {k: {"bits": b, "method": "uniform"} for k, b in widths.items()},
    }
    file, out = folder / f"{name}.json", folder / name
    file.write_text(json.dumps(plan))
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    command = [sys.executable, "-m", "allocator.cli", "export", "--json", "--force"]
    command += ["--plan", str(file), "--format", name, "--out", str(out)]
    command += ["--data", str(ensure_world(folder / "cache" / "allocate"))]
    found = watched(command, environment)
    if not keep:
        shutil.rmtree(out)
    return {"format": name, **found}


if __name__ == "__main__":
    main()
