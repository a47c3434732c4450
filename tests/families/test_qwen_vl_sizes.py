"""Sizes of the published Qwen-VL models, from their configurations alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.plugins import load

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

QWEN: Family = load("allocator.families", "qwen_vl")
VISION_2 = {
    "model_type": "qwen2_vl",
    "depth": 32,
    "embed_dim": 1280,
    "mlp_ratio": 4,
    "num_heads": 16,
    "in_chans": 3,
    "spatial_patch_size": 14,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
VISION_25 = {
    "depth": 32,
    "hidden_act": "silu",
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_chans": 3,
    "patch_size": 14,
    "spatial_patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
VISION_3 = {
    "model_type": "qwen3_vl",
    "depth": 24,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
}


def text(layers: int, width: int, inner: int, heads: int, kv: int) -> dict[str, Any]:
    """The part of a configuration that is named alike in all releases."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": 151936,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
    }


def flat(kind: str, vision: dict[str, Any], **of_text: Any) -> dict[str, Any]:
    """A config.json of Qwen2-VL or Qwen2.5-VL: the language model is not apart."""
    return {
        "model_type": kind,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": vision,
        **of_text,
    }


def nested(width: int, **of_text: Any) -> dict[str, Any]:
    """A config.json of Qwen3-VL."""
    scaling = {
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_type": "default",
    }
    of_text |= {"model_type": "qwen3_vl_text", "head_dim": 128, "rope_scaling": scaling}
    return {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": True,
        "text_config": of_text,
        "vision_config": {**VISION_3, "out_hidden_size": width},
    }


# configuration; parameters that its page on huggingface.co gives for the weights'
# files; weights of the tower, the mergers and the language model
PUBLISHED = {
    "Qwen2-VL-2B": (
        flat(
            "qwen2_vl",
            {**VISION_2, "hidden_size": 1536},
            **text(28, 1536, 8960, 12, 2),
            tie_word_embeddings=True,
        ),
        2_208_985_600,
        32 * 12 * 1280**2,
        5120**2 + 5120 * 1536,
        28 * (2 * 1536**2 + 2 * 256 * 1536 + 3 * 1536 * 8960),
    ),
    "Qwen2-VL-7B": (
        flat(
            "qwen2_vl",
            {**VISION_2, "hidden_size": 3584},
            **text(28, 3584, 18944, 28, 4) | {"vocab_size": 152064},
            tie_word_embeddings=False,
        ),
        8_291_375_616,
        32 * 12 * 1280**2,
        5120**2 + 5120 * 3584,
        28 * (2 * 3584**2 + 2 * 512 * 3584 + 3 * 3584 * 18944),
    ),
    "Qwen2.5-VL-3B": (
        flat(
            "qwen2_5_vl",
            {**VISION_25, "out_hidden_size": 2048},
            **text(36, 2048, 11008, 16, 2),
            tie_word_embeddings=True,
        ),
        3_754_622_976,
        32 * (4 * 1280**2 + 3 * 1280 * 3420),
        5120**2 + 5120 * 2048,
        36 * (2 * 2048**2 + 2 * 256 * 2048 + 3 * 2048 * 11008),
    ),
    "Qwen2.5-VL-7B": (
        flat(
            "qwen2_5_vl",
            {**VISION_25, "out_hidden_size": 3584},
            **text(28, 3584, 18944, 28, 4) | {"vocab_size": 152064},
            tie_word_embeddings=False,
        ),
        8_292_166_656,
        32 * (4 * 1280**2 + 3 * 1280 * 3420),
        5120**2 + 5120 * 3584,
        28 * (2 * 3584**2 + 2 * 512 * 3584 + 3 * 3584 * 18944),
    ),
    "Qwen3-VL-2B": (
        nested(2048, **text(28, 2048, 6144, 16, 8)),
        2_127_532_032,
        24 * (4 * 1024**2 + 2 * 1024 * 4096),
        4 * (4096**2 + 4096 * 2048),
        28 * (2 * 2048**2 + 2 * 1024 * 2048 + 3 * 2048 * 6144),
    ),
    "Qwen3-VL-4B": (
        nested(2560, **text(36, 2560, 9728, 32, 8)),
        4_437_815_808,
        24 * (4 * 1024**2 + 2 * 1024 * 4096),
        4 * (4096**2 + 4096 * 2560),
        36 * (2 * 4096 * 2560 + 2 * 1024 * 2560 + 3 * 2560 * 9728),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_published_models(name: str, tmp_path: Path) -> None:
    config, parameters, *weights = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = QWEN.spec(tmp_path)
    assert spec.parameters == parameters
    for component, wanted in zip(
        ("vision", "connector", "language"), weights, strict=True
    ):
        groups = [group for group in spec.groups if group.component == component]
        assert sum(group.weights for group in groups) == wanted


def test_the_rest_is_embeddings_head_patches_norms_and_biases(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED["Qwen2.5-VL-7B"][0]))
    spec = QWEN.spec(tmp_path)
    words = 2 * 152064 * 3584
    # a convolution over two frames of 14 x 14 pixels: no linear, so never in a group
    patches = 1280 * 3 * 2 * 14**2
    block = 2 * 1280 + (3 * 1280 + 1280 + 2 * 3420 + 1280)
    merger = 1280 + 5120 + 3584
    layer = 2 * 3584 + (3584 + 512 + 512)
    assert spec.rest == words + patches + 32 * block + merger + 28 * layer + 3584
    assert [left.name for left in spec.left_out] == ["lm_head"]
