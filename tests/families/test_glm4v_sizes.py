"""Sizes of the published GLM-V, from their configurations alone.

No source was found that gives their parameters one by one: theirs are round, and the
exact ones are added up by hand here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.plugins import load
from tests.families.checkpoints import Published, check_sizes

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

FAMILY: Family = load("allocator.families", "glm4v")
WORDS = 151552
# AIMv2 huge of 336 pixels (https://github.com/ggml-org/llama.cpp/pull/16600)
VISION: dict[str, Any] = {
    "depth": 24,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "image_size": 336,
    "in_channels": 3,
    "num_heads": 12,
    "out_hidden_size": 4096,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
TEXT = {
    "hidden_size": 4096,
    "partial_rotary_factor": 0.5,
    "rope_scaling": {"mrope_section": [8, 12, 12], "type": "default"},
    "vocab_size": WORDS,
}


def config(kind: str, inner: int, **text: Any) -> dict[str, Any]:
    return {
        "model_type": kind,
        "text_config": {"model_type": f"{kind}_text", **TEXT, **text},
        "tie_word_embeddings": False,
        "vision_config": {**VISION, "intermediate_size": inner},
    }


def seen(inner: int) -> dict[tuple[str, str], int]:
    """Weights of the tower, whose inner width is that of what it gives, and merger."""
    return {
        ("vision", "attn"): 24 * 4 * 1536**2,
        ("vision", "ff"): 24 * 3 * 1536 * 4096,
        ("connector", "all"): 4096**2 + 3 * 4096 * inner,
    }


# patches, two frames of 14 x 14; places of 24 x 24; the convolution that puts four
# together; two norms a block and two of the tower; those of the merger
SIDE = (3 * 2 * 14**2 * 1536 + 1536) + 24**2 * 1536 + (4 * 1536 * 4096 + 4096)
SIDE += (2 * 24 + 2) * 1536 + 2 * 4096
# embeddings, head and last norm
FRAME = 2 * WORDS * 4096 + 4096

# GLM-4.1V-9B-Thinking; GLM-4.6V-Flash is the same ("10B params")
FLASH = config(
    "glm4v",
    13696,
    intermediate_size=13696,
    num_attention_heads=32,
    num_hidden_layers=40,
    num_key_value_heads=2,
)
FLASH_WEIGHTS = seen(13696) | {
    ("language", "attn"): 40 * 4096 * 128 * (2 * 32 + 2 * 2),
    ("language", "ff"): 40 * 3 * 4096 * 13696,
}
# biases of queries, keys and values; four norms
FLASH_REST = SIDE + FRAME + 40 * (128 * (32 + 2 * 2) + 4 * 4096)

# GLM-4.5V, of GLM-4.5-Air ("106 billion total parameters", which is the language model:
# https://huggingface.co/docs/transformers/en/model_doc/glm4_moe)
AIR = config(
    "glm4v_moe",
    10944,
    attention_bias=True,
    first_k_dense_replace=1,
    head_dim=128,
    intermediate_size=10944,
    moe_intermediate_size=1408,
    n_routed_experts=128,
    n_shared_experts=1,
    num_attention_heads=96,
    num_experts_per_tok=8,
    num_hidden_layers=46,
    num_key_value_heads=8,
)
AIR_WEIGHTS = seen(10944) | {
    ("language", "attn"): 46 * 4096 * 128 * (2 * 96 + 2 * 8),
    ("language", "ff"): 3 * 4096 * (10944 + 45 * (128 + 1) * 1408),
}
# a router in all but the first block, with a correction for each expert; two norms
AIR_REST = SIDE + FRAME + 46 * (128 * (96 + 2 * 8) + 2 * 4096) + 45 * 128 * (4096 + 1)
ROUTERS = [f"model.language_model.layers.{n}.mlp.gate" for n in range(1, 46)]


@pytest.mark.parametrize(
    ("published", "weights", "rest", "left"),
    [
        (FLASH, FLASH_WEIGHTS, FLASH_REST, ["lm_head"]),
        (AIR, AIR_WEIGHTS, AIR_REST, ["lm_head", *ROUTERS]),
    ],
    ids=["GLM-4.1V-9B", "GLM-4.5V"],
)
def test_sizes_are_those_added_up_by_hand(
    published: Any, weights: Any, rest: int, left: list[str], tmp_path: Path
) -> None:
    parameters = sum(weights.values()) + rest
    check_sizes(FAMILY, Published(published, parameters, weights, left), tmp_path)


def test_rounded_they_are_the_published_ones() -> None:
    assert round((sum(FLASH_WEIGHTS.values()) + FLASH_REST) / 1e9) == 10
    language = sum(n for (part, _), n in AIR_WEIGHTS.items() if part == "language")
    assert int((language + AIR_REST - SIDE) / 1e9) == 106
