"""Default configurations of transformers' architectures that read pictures.

Some defaults describe no model: a setting is missing, or parts do not fit each other.
What is needed is added from what published configurations say.
"""

from __future__ import annotations

from typing import Any


def _letters(number: int) -> str:
    return "".join(chr(ord("A") + int(digit)) for digit in str(number))


ADDED: dict[str, dict[str, Any]] = {
    "blip-2": {"image_token_index": 50265},
    "instructblip": {"image_token_index": 50265},
    "instructblipvideo": {"video_token_index": 50265},
    "chameleon": {
        "vocabulary_map": {
            "<image>": 8711,
            **{f"IMGIMG{_letters(n)}Z": 4 + n for n in range(8192)},
        }
    },
    "cohere_compass": {
        "text_config": {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 10000.0}
            }
        }
    },
    "deepseek_ocr2": {
        "vision_config": {
            "encoder_config": {
                "hidden_size": 896,
                "intermediate_size": 4864,
                "num_attention_heads": 14,
                "num_key_value_heads": 2,
            }
        },
        "text_config": {
            "mlp_layer_types": ["dense", *["sparse"] * 31],
            "n_group": 1,
            "topk_group": 1,
            "num_experts_per_tok": 6,
        },
    },
    "diffusion_gemma": {
        "text_config": {
            "num_experts": 128,
            "top_k_experts": 8,
            "moe_intermediate_size": 704,
        }
    },
    "emu3": {
        "vocabulary_map": {
            "<|extra_200|>": 151846,
            "<image>": 151851,
            **{f"<|visual token {n:06d}|>": 151854 + n for n in range(32768)},
        }
    },
    "gemma4": {"vision_config": {}},
    "gemma4_unified": {"vision_config": {}},
    "granite4_vision": {
        "downsample_rate": "4/8",
        "deepstack_layer_map": [[3, 0], [6, 1], [9, 2]],
        "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": [[384, 768], [768, 384], [768, 768]],
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": 384,
            "patch_size": 16,
        },
    },
    "hunyuan_vl": {
        "text_config": {
            "head_dim": 128,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [16, 16, 16, 16],
            },
        }
    },
    "janus": {
        "vision_config": {"projection_dim": 4096},
        "vq_config": {"projection_dim": 4096, "image_token_embed_dim": 4096},
    },
    "llama4": {"vision_config": {"hidden_size": 1408, "vision_output_dim": 4096}},
    "minicpm_ocr": {"image_token_id": 151655, "video_token_id": 151656},
    "minicpmv4_6": {"image_token_id": 248056, "video_token_id": 248057},
    "minicpmv4_7": {"image_token_id": 248056, "video_token_id": 248057},
    "muse_spark": {"out_hidden_size": 6144},
    "nemotron_h_omni": {"image_token_id": 18},
    "ovis2": {"hidden_size": 4096},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 151652},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 151652},
    "qwen4_exp": {
        "text_config": {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.25,
            },
            "indexer_n_heads": 16,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 128,
            "indexer_budget": 2048,
            "indexer_compress_ratio": 16,
        }
    },
    "step3p7": {"text_config": {"sliding_window": 512}},
    "udop": {"decoder_start_token_id": 0},
    "vision-encoder-decoder": {"decoder_start_token_id": 101},
}

# what none of this is for
OTHERS = {
    "diffusion_gemma": "writes whole blocks by diffusion, not token by token",
    "evolla": "reads proteins, not pictures",
    "llama4": "transformers' own forward pass fails: it reads `image_outputs`, which "
    "its language model does not give",
    "mistral4": "reads words alone",
    "pi0": "steers a robot: it does not write",
}


def default_config(kind: str) -> Any:
    """The default configuration of an architecture, with what it lacks."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[kind](**ADDED.get(kind, {}))
