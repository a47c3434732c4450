"""Readers of checkpoints, banks and finalized weights."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import FULL, Choice, Scheme
from allocator.embedded import model_folder
from allocator.families import (
    INDEX,
    SINGLE,
    check_weights,
    checkpoint_files,
    packed_by,
    read_config,
    tensor_bytes,
    weight_files,
)
from allocator.families._files import check_small_files
from allocator.families._generation import read_advice
from allocator.families._quantized import check_packed, check_plain
from quant.assignment import VERSION, name_of, settings_of
from quant.bank import MANIFEST, read_manifest
from quant.cells import (
    add_cells,
    damaged_cells,
    file_of,
    packed_cell,
    read_cell,
    read_part,
    stored_cells,
)
from quant.finalized import Finalized
from quant.grid import round_to_nearest
from quant.pooling import feeding
from quant.upkeep import sweep, verify
from tests.fuzz.readers import Reader, as_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE = model_folder("tiny-llava")
NAME = "model.layers.0.linear"
KEYS = ("uniform.1.3", "uniform.1.4")


def small_safetensors() -> bytes:
    """Two tensors of a few numbers, and text beside them."""
    from safetensors.torch import save

    tensors = {"a.weight": torch.zeros(2, 3), "b.weight": torch.ones(4)}
    return save(tensors, {"format": "pt"})


def configurations(folder: Path) -> Any:
    file = folder / "config.json"
    seed = json.loads((SOURCE / "config.json").read_text())
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group"}
    said = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"weights": weights}},
    }

    def read(content: bytes) -> object:
        file.write_bytes(content)
        config = read_config(folder)
        check_packed(folder, config)
        if packed_by(folder) is None:
            check_plain(folder, config)
        return config

    return as_json(seed, {**seed, "quantization_config": said}), read


def _small(name: str) -> Callable[[Path], Any]:
    """A reader of one of the files beside the weights."""

    def made(folder: Path) -> Any:
        shutil.copy(SOURCE / "config.json", folder)
        source = SOURCE / name
        seed = source.read_bytes() if source.is_file() else b'{"<image>": 5}'

        def read(content: bytes) -> object:
            (folder / name).write_bytes(content)
            check_small_files(folder)
            if name == "generation_config.json":
                read_advice(folder)
            return read_config(folder)

        return [seed], read

    return made


def headers(folder: Path) -> Any:
    file = folder / SINGLE

    def read(content: bytes) -> object:
        file.write_bytes(content)
        checkpoint_files(folder)
        return tensor_bytes(folder)

    return [small_safetensors()], read


def sizes_of_headers(folder: Path) -> Any:
    """The header that is read by itself, whatever safetensors makes of the file."""
    file = folder / SINGLE

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return tensor_bytes(folder)

    return [small_safetensors()], read


def indexes(folder: Path) -> Any:
    part = "model-00001-of-00001.safetensors"
    (folder / part).write_bytes(small_safetensors())

    def read(content: bytes) -> object:
        (folder / INDEX).write_bytes(content)
        return weight_files(folder), check_weights(folder)

    return as_json({"weight_map": {"a.weight": part, "b.weight": part}}), read


def cells(folder: Path) -> Any:
    torch.manual_seed(0)
    weight = torch.randn(4, 64)
    made = [round_to_nearest(weight, Scheme(32), bits) for bits in (3, 4)]
    add_cells(folder, {NAME: dict(zip(KEYS, map(packed_cell, made), strict=True))})
    file = file_of(folder, NAME)
    seed = file.read_bytes()

    def read(content: bytes) -> object:
        file.write_bytes(content)
        damaged_cells(file)
        found = [read_cell(file, key) for key in stored_cells(file)]
        read_part(file, KEYS[0], "scale")
        return found

    return [seed], read


def manifests(folder: Path) -> Any:
    cells(folder)
    sums = {
        key: cell["sum"] for key, cell in stored_cells(file_of(folder, NAME)).items()
    }
    said = {"experts": 4, "mixed": 1, "unseen": 0, "needed": 9}
    seed = {"format": 3, "weights": "w", "calibration": ["a"], "linears": {NAME: sums},
        "fallbacks": {}, "experts": {**said, "stacks": {}}}  # fmt: skip

    def read(content: bytes) -> object:
        (folder / MANIFEST).write_bytes(content)
        verify(folder)
        sweep(folder, {"uniform": 1}, unused=1e12, dry_run=True)
        return feeding(read_manifest(folder))

    return as_json(seed), read


def finalized_folders(folder: Path) -> Any:
    torch.manual_seed(0)
    cell = round_to_nearest(torch.randn(4, 64), Scheme(32), 4)
    key = "uniform"
    add_cells(folder, {NAME: {key: packed_cell(cell)}})
    total = stored_cells(file_of(folder, NAME))[key]["sum"]
    linears = {
        NAME: {"bits": 4, "method": "uniform", "cell": key, "sum": total},
        "head": {"bits": FULL, "method": None},
    }
    recipe = "0123"
    settings = settings_of(recipe, True, None)
    seed = {
        "version": VERSION,
        "digest": name_of(settings, list(linears), {NAME: key}),
        "weights": "w",
        "scales": "float16",
        "recipe": recipe,
        "corrected": True,
        "tuned": None,
        "linears": linears,
        "changed": {},
    }

    def read(content: bytes) -> object:
        (folder / MANIFEST).write_bytes(content)
        found = Finalized.open(folder)
        found.check("w", {NAME: Choice(4, "uniform"), "head": Choice(FULL)})
        return found

    return as_json(seed), read


READERS = (
    *(
        Reader(made.__name__.replace("_", " "), made)
        for made in (
            *(configurations, headers, sizes_of_headers, indexes, cells, manifests),
            finalized_folders,
        )
    ),
    *(
        Reader(name, _small(name))
        for name in (
            *("generation_config.json", "tokenizer.json", "tokenizer_config.json"),
            *("processor_config.json", "added_tokens.json"),
        )
    ),
)
