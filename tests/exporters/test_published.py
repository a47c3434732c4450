"""config.json in the layout of published checkpoints, as other readers want it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import ModelError
from allocator.exporters._hub import hub_of
from allocator.exporters._published import published_config
from tests.exporters.models import KINDS, checkpoint_of, random_model

if TYPE_CHECKING:
    from pathlib import Path


def test_a_kind_that_is_not_known_is_refused_if_transformers_5_saved_it() -> None:
    config = {"model_type": "new", "transformers_version": "5.24.0"}
    with pytest.raises(ModelError, match=r"saved this 'new' model.* of llava,"):
        published_config(config)
    older = {**config, "transformers_version": "4.57.1"}
    assert published_config(older) == older


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "axial", "rope_theta": 5.0},
        {"full_attention": {"rope_theta": 1.0, "rope_type": "default"}},
    ],
)
def test_positions_without_a_published_place_are_refused(rope: dict[str, Any]) -> None:
    config = {"model_type": "gemma3", "text_config": {"rope_parameters": rope}}
    with pytest.raises(ModelError, match=r"text_config\.rope_parameters of a 'gemma3'"):
        published_config(config)


def test_gemma_has_two_bases_of_positions() -> None:
    given = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    config = {"model_type": "gemma3", "text_config": {"rope_parameters": given}}
    # as google/gemma-3-4b-it has it
    assert published_config(config)["text_config"] == {
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_local_base_freq": 1e4,
    }


def test_a_flat_configuration_that_has_the_part_too_takes_the_part(
    tmp_path: Path,
) -> None:
    random_model(tmp_path, "qwen2.5-vl", 128)
    file = tmp_path / "config.json"
    flat = json.loads(file.read_text())
    # as transformers 4.53 to 4.57 save it
    rope = {**flat["rope_scaling"], "type": "default", "rope_type": "default"}
    names = [name for name in flat if name not in NOT_TEXT]
    text = {name: flat[name] for name in names} | {"rope_scaling": rope}
    more = {"model_type": "qwen2_5_vl_text", "image_token_id": None}
    both = {**flat, "rope_theta": 5.0, "text_config": {**text, **more}}
    file.write_text(json.dumps(both))
    found = hub_of(checkpoint_of(tmp_path)).config
    assert found == {**flat, "rope_scaling": rope, "dtype": "float16"}


NOT_TEXT = (
    *("architectures", "model_type", "vision_config", "torch_dtype"),
    *("transformers_version", "image_token_id", "video_token_id"),
    *("vision_start_token_id", "vision_end_token_id", "tie_word_embeddings"),
)


# read as mlx_vlm.utils.load_model reads it, without the model
MLX = """
import importlib, json, sys
from mlx_vlm.utils import update_module_configs
config = json.load(open(sys.argv[1]))
kind = importlib.import_module(f"mlx_vlm.models.{config['model_type']}")
config.setdefault("text_config", {})
read = kind.ModelConfig.from_dict(config)
read = update_module_configs(read, kind, config, ["text", "vision"])
text, vision = read.text_config, read.vision_config
print(json.dumps([
    text.rope_theta, text.rope_scaling, text.tie_word_embeddings, vision.model_type,
    text.hidden_size, text.num_hidden_layers, vision.hidden_size,
]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mlx_vlm_reads_the_configuration(kind: str, tmp_path: Path) -> None:
    python = os.environ.get("ALLOCATE_MLX_PYTHON")
    if not python:
        pytest.skip("ALLOCATE_MLX_PYTHON names no Python that has mlx-vlm")
    random_model(tmp_path, kind, 128, "transformers5")
    hub = hub_of(checkpoint_of(tmp_path))
    file = tmp_path / "published.json"
    file.write_text(json.dumps(hub.config))
    done = subprocess.run(
        [python, "-c", MLX, str(file)], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    sections = {"mrope_section": [8, 12, 12]}
    wanted: dict[str, list[Any]] = {
        "llava": [1e4, None, False, "clip_vision_model"],
        "qwen2.5-vl": [1e6, {**sections, "type": "mrope"}, False, "qwen2_5_vl"],
        "qwen3-vl": [
            1e6,
            {**sections, "type": "default", "mrope_interleaved": True},
            True,
            "qwen3_vl",
        ],
    }
    assert found == [*wanted[kind], 128, 2, 128]
