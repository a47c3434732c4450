"""Files are read as the libraries read them that have written them."""

from __future__ import annotations

import json
import random
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.imports import imported
from allocator.core.allocation import Scheme
from allocator.embedded import model_folder
from allocator.families import family_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec

FOLDER = model_folder("tiny-llava")
ROWS = ("model.vision_tower.encoder.layers", "model.language_model.layers")
PARTS = ("self_attn", "mlp", r"q_proj", r"layers\.1\.", r"fc[12]", r"up_proj$")


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return family_of(FOLDER).spec(FOLDER, "type", ())


@pytest.fixture(scope="module")
def module() -> Any:
    return family_of(FOLDER).outline(FOLDER).module


def bits_of(config: dict[str, Any], spec: ModelSpec, file: Path) -> dict[str, int]:
    file.write_text(json.dumps({"quantization_config": config}))
    found = imported(file, spec, Scheme())
    return {name: choice.bits for name, choice in found.choices.items()}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("auto_round") is None, reason="auto-round is missing")
def test_autoround_gives_every_layer_the_same_bits(
    spec: ModelSpec, module: Any, tmp_path: Path
) -> None:
    theirs = import_module("auto_round.inference.convert_model").get_layer_config
    names, rng = [linear.name for linear in spec.linears], random.Random(0)
    for _ in range(20):
        extra = {rng.choice(PARTS): {"bits": rng.choice((2, 8, 16))} for _ in range(2)}
        extra |= {name: {"bits": rng.choice((3, 5))} for name in rng.sample(names, 4)}
        config = {
            **{"quant_method": "auto-round", "bits": 4, "group_size": 64, "sym": False},
            **{"extra_config": extra, "block_name_to_quantize": ",".join(ROWS)},
        }
        copy = json.loads(json.dumps(config))
        layers = theirs(module, SimpleNamespace(**copy))
        told = {name: int(layers[name]["bits"]) for name in names if name in layers}
        assert bits_of(config, spec, tmp_path / "config.json") == {
            name: told.get(name, 16) for name in names
        }


@pytest.mark.skipif(
    find_spec("compressed_tensors") is None, reason="compressed-tensors is missing"
)
def test_compressed_tensors_gives_every_linear_the_same_bits(
    spec: ModelSpec, module: Any, tmp_path: Path
) -> None:
    utils = import_module("compressed_tensors.utils.match")
    names, rng = [linear.name for linear in spec.linears], random.Random(0)
    for _ in range(20):
        targets = {
            f"re:.*{part}.*": rng.choice((2, 3)) for part in rng.sample(PARTS, 2)
        }
        targets |= {name: rng.choice((5, 6)) for name in rng.sample(names, 3)}
        targets |= {"Linear": 8} if rng.random() < 0.5 else {}
        groups = {
            f"group_{n}": {"targets": [text], "weights": {"num_bits": bits}}
            for n, (text, bits) in enumerate(targets.items())
        }
        ignore = ["lm_head", *rng.sample(names, 2), f"re:.*{rng.choice(PARTS)}"]
        told = dict.fromkeys(names, 16)
        for name, part in utils.match_named_modules(module, targets, ignore):
            if name in told:
                told[name] = targets[utils.match_targets(name, part, targets)[0]]
        config = {"quant_method": "compressed-tensors", "config_groups": groups}
        if all(bits == 16 for bits in told.values()):
            continue
        found = bits_of({**config, "ignore": ignore}, spec, tmp_path / "config.json")
        assert found == told
