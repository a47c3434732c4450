"""LLaVA's published sizes, other configurations, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

from allocator.core.errors import ModelError
from allocator.families._tiny import IMAGE, two_prompts
from allocator.families.llava import PLUGIN as LLAVA
from tests.families.checkpoints import (
    CLIP,
    SIGLIP,
    Decoder,
    Published,
    check_sizes,
    tower,
)
from tests.families.processors import check_state

if TYPE_CHECKING:
    from pathlib import Path


def projector(seen: int, width: int) -> dict[tuple[str, str], int]:
    return {("connector", "all"): seen * width + width**2}


CLIP_WEIGHTS = tower(24, 1024, 4096) | projector(1024, 4096)
QWEN2 = Decoder(24, 896, 4864, 14, 2, 152000, 64)
PUBLISHED = {
    # 7,063,427,072: `sum(p.numel() ...)` of the checkpoint, in public code
    "llava-hf/llava-1.5-7b-hf": Published(
        {
            "model_type": "llava",
            "image_token_index": 32000,
            "vision_config": CLIP,
            "text_config": {"model_type": "llama", "vocab_size": 32064},
        },
        7_063_427_072,
        CLIP_WEIGHTS | Decoder(32, 4096, 11008, 32, 32, 32064, 128).weights,
    ),
    # no count to the last digit is published; by hand: tower, projector, newline,
    # language model
    "llava-hf/llava-v1.6-mistral-7b-hf": Published(
        {
            "model_type": "llava_next",
            "image_token_index": 32000,
            "vision_config": CLIP,
            "text_config": {
                "model_type": "mistral",
                "vocab_size": 32064,
                "intermediate_size": 14336,
                "num_key_value_heads": 8,
            },
        },
        303_507_456 + 20_979_712 + 4_096 + 7_242_256_384,
        CLIP_WEIGHTS | Decoder(32, 4096, 14336, 32, 8, 32064, 128).weights,
    ),
    # nor here; the tower has lost a block, and the head is the embeddings
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": Published(
        {
            "model_type": "llava_onevision",
            "vision_config": {**SIGLIP, "image_size": 384, "num_hidden_layers": 26},
            "text_config": QWEN2.config(model_type="qwen2", tie_word_embeddings=True),
        },
        397_747_744 + 1_836_800 + 896 + 494_090_112,
        tower(26, 1152, 4304) | projector(1152, 896) | QWEN2.weights,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_sizes(name: str, tmp_path: Path) -> None:
    check_sizes(LLAVA, PUBLISHED[name], tmp_path)


@pytest.mark.parametrize(
    ("part", "kind"),
    [("text_config", "gemma2"), ("text_config", "opt"), ("vision_config", "dinov2")],
)
def test_a_part_of_another_kind_is_refused(
    part: str, kind: str, tmp_path: Path
) -> None:
    """Its layers may be named alike and yet be put together in another way."""
    config = dict(PUBLISHED["llava-hf/llava-v1.6-mistral-7b-hf"].config)
    config[part] = {"model_type": kind, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"model is a '{kind}'; known are (clip|lla)"):
        LLAVA.spec(tmp_path)


def test_a_pooling_head_is_left_out_with_its_reason(tmp_path: Path) -> None:
    tower = {**SIGLIP, "image_size": 384, "num_hidden_layers": 2}
    published = PUBLISHED["llava-hf/llava-onevision-qwen2-0.5b-ov-hf"].config
    config: dict[str, Any] = {
        **published,
        "vision_config": {**tower, "vision_use_head": True},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    left = {each.name: each.reason for each in LLAVA.spec(tmp_path).left_out}
    assert set(left) == {
        "lm_head",
        "model.vision_tower.head.attention.out_proj",
        "model.vision_tower.head.mlp.fc1",
        "model.vision_tower.head.mlp.fc2",
    }
    assert "pools" in left["model.vision_tower.head.mlp.fc1"]


@pytest.mark.parametrize(
    ("name", "part", "values", "tokens"),
    [
        # what stands before the blocks, behind the first and behind the last
        ("next", None, {"vision_feature_layer": [0, -2, -1]}, 14),
        ("onevision", "vision_config", {"vision_use_head": True}, 14),
        # 2 rows of 4 shrink to what fits into one tile: 1 row of 2 and a newline
        ("onevision", None, {"vision_aspect_ratio": "anyres_max_1"}, 7),
    ],
)
def test_other_configurations_run_in_stages_too(
    name: str, part: str | None, values: dict[str, Any], tokens: int, tmp_path: Path
) -> None:
    variant = LLAVA.by_name[name]
    config, state = variant.tiny()
    for key, value in values.items():
        setattr(getattr(config, part) if part else config, key, value)
    prompts = two_prompts([IMAGE] * tokens, state["pixel_values"].shape)
    torch.manual_seed(0)
    module = getattr(transformers, variant.model_class)(config)
    module.half().save_pretrained(tmp_path)
    check_state(LLAVA.load(tmp_path, "cpu"), {**state, **prompts})
