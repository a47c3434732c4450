"""Sizes of the published Qwen-VL models, from their configurations alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.plugins import load
from tests.families.checkpoints import Decoder, Published, check_sizes, tower

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
# of the language model, in all releases
COMMON = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
}


def flat(
    kind: str, vision: dict[str, Any], text: Decoder, *, tied: bool
) -> dict[str, Any]:
    """A config.json of Qwen2-VL or Qwen2.5-VL: the language model is not apart."""
    return {
        "model_type": kind,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": tied,
        "vision_config": vision,
        **text.config(**COMMON),
    }


def nested(text: Decoder) -> dict[str, Any]:
    """A config.json of Qwen3-VL."""
    scaling = {
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_type": "default",
    }
    of_text = {
        "model_type": "qwen3_vl_text",
        "head_dim": text.dim,
        "rope_scaling": scaling,
    }
    return {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": True,
        "text_config": text.config(**COMMON, **of_text),
        "vision_config": {**VISION_3, "out_hidden_size": text.width},
    }


def mergers(count: int, width: int, text: Decoder) -> dict[tuple[str, str], int]:
    """Weights of the connector, which merges four patches into one of `width`."""
    return {("connector", "all"): count * (width**2 + width * text.width)}


def qwen2(text: Decoder, parameters: int, *, tied: bool) -> Published:
    vision = {**VISION_2, "hidden_size": text.width}
    weights = tower(32, 1280, 5120) | mergers(1, 5120, text) | text.weights
    return Published(flat("qwen2_vl", vision, text, tied=tied), parameters, weights)


def qwen25(text: Decoder, parameters: int, *, tied: bool) -> Published:
    vision = {**VISION_25, "out_hidden_size": text.width}
    weights = tower(32, 1280, 5120) | mergers(1, 5120, text) | text.weights
    # it has a gate
    weights["vision", "ff"] = 32 * 3 * 1280 * 3420
    return Published(flat("qwen2_5_vl", vision, text, tied=tied), parameters, weights)


def qwen3(text: Decoder, parameters: int) -> Published:
    weights = tower(24, 1024, 4096) | mergers(4, 4096, text) | text.weights
    return Published(nested(text), parameters, weights)


QWEN2_7B = Decoder(28, 3584, 18944, 28, 4, 152064, 128)
# parameters are those that its page on huggingface.co gives for the weights' files
PUBLISHED = {
    "Qwen2-VL-2B": qwen2(
        Decoder(28, 1536, 8960, 12, 2, 151936, 128), 2_208_985_600, tied=True
    ),
    "Qwen2-VL-7B": qwen2(QWEN2_7B, 8_291_375_616, tied=False),
    "Qwen2.5-VL-3B": qwen25(
        Decoder(36, 2048, 11008, 16, 2, 151936, 128), 3_754_622_976, tied=True
    ),
    "Qwen2.5-VL-7B": qwen25(QWEN2_7B, 8_292_166_656, tied=False),
    "Qwen3-VL-2B": qwen3(Decoder(28, 2048, 6144, 16, 8, 151936, 128), 2_127_532_032),
    "Qwen3-VL-4B": qwen3(Decoder(36, 2560, 9728, 32, 8, 151936, 128), 4_437_815_808),
}


def experts() -> Published:
    """Qwen3-VL-30B-A3B: 128 experts in each of 48 blocks."""
    text = Decoder(48, 2048, 768, 32, 4, 151936, 128)
    config = nested(text)
    config["model_type"] = "qwen3_vl_moe"
    config["tie_word_embeddings"] = False
    config["text_config"] |= {
        "model_type": "qwen3_vl_moe_text",
        "intermediate_size": 6144,
        "mlp_only_layers": [],
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    }
    config["vision_config"] |= {
        "model_type": "qwen3_vl_moe",
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "deepstack_visual_indexes": [8, 16, 24],
    }
    weights = tower(27, 1152, 4304) | mergers(4, 4608, text) | text.weights
    weights["language", "ff"] *= 128
    routers = [f"model.language_model.layers.{n}.mlp.gate" for n in range(48)]
    return Published(config, 31_070_754_032, weights, ("lm_head", *routers))


PUBLISHED["Qwen3-VL-30B-A3B"] = experts()


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_published_models(name: str, tmp_path: Path) -> None:
    check_sizes(QWEN, PUBLISHED[name], tmp_path)


def test_the_rest_is_embeddings_head_patches_norms_and_biases(tmp_path: Path) -> None:
    config = PUBLISHED["Qwen2.5-VL-7B"].config
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = QWEN.spec(tmp_path)
    words = 2 * 152064 * 3584
    # a convolution over two frames of 14 x 14 pixels: no linear, so never in a group
    patches = 1280 * 3 * 2 * 14**2
    block = 2 * 1280 + (3 * 1280 + 1280 + 2 * 3420 + 1280)
    merger = 1280 + 5120 + 3584
    layer = 2 * 3584 + (3584 + 512 + 512)
    assert spec.rest == words + patches + 32 * block + merger + 28 * layer + 3584
