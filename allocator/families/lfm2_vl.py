"""LFM2-VL: SigLIP 2 tower, pixel unshuffle, blocks of short convolutions or attention.

Liquid AI, "LFM2 Technical Report", arXiv 2511.23404.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import llama_like
from allocator.families._family import Declared, Variant
from allocator.families._places import Rest
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._towers import POOLING_HEAD, tower_of
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from allocator.core.ports import Family, State

# a block has attention or a convolution, and what mixes tokens is of one type. Behind a
# convolution the output reads a product of three parts of what goes in: no scale folds
BLOCK = (
    Readers(
        "self_attn.q_proj self_attn.k_proj self_attn.v_proj", "attn", "operator_norm"
    ),
    Readers("self_attn.out_proj", "attn", "self_attn.v_proj"),
    Readers("conv.in_proj", "attn", "operator_norm"),
    Readers("conv.out_proj", "attn"),
    Readers("feed_forward.w1 feed_forward.w3", "ff", "ffn_norm"),
    Readers("feed_forward.w2", "ff", "feed_forward.w3"),
)
PROJECTOR = "model.multi_modal_projector"
PATCHES = Rest(
    r"model\.vision_tower\.embeddings\.patch_embedding",
    "patch embedding, which reads the pixels",
)


def layout(module: Any) -> Layout:
    """Where the parts of an LFM2-VL are."""
    # checks that the language part is what BLOCK describes
    llama_like(module.config, ("lfm2",))
    norm = f"{PROJECTOR}.layer_norm" if module.config.projector_use_layernorm else None
    return Layout(
        vision=tower_of(module, ("siglip2_vision_model",)),
        connector=(
            Readers(f"{PROJECTOR}.linear_1", "all", norm),
            Readers(f"{PROJECTOR}.linear_2", "all"),
        ),
        language=Row("language", "model.language_model.layers", BLOCK),
        rests=(PATCHES, POOLING_HEAD),
        norm="embedding_norm",
    )


def _tiny() -> tuple[Any, State]:
    """A square and a wide picture of 16 patches, padded to 20; four make one token."""
    import torch
    from transformers import Lfm2VlConfig

    config = Lfm2VlConfig(
        vision_config={
            "patch_size": 4,
            "num_patches": 16,
            "vision_use_head": False,
            **SIZES,
        },
        text_config={
            **SIZES,
            "vocab_size": VOCABULARY,
            "num_key_value_heads": 2,
            "layer_types": ["conv", "full_attention"],
            "block_auto_adjust_ff_dim": False,
        },
        image_token_id=IMAGE,
        projector_hidden_size=64,
    )
    state = two_prompts([IMAGE + 1, *[IMAGE] * 4, IMAGE + 2], (2, 20, 3 * 4 * 4))
    mask = torch.ones(2, 20, dtype=torch.int32)
    mask[:, 16:] = 0
    shapes = torch.tensor([[4, 4], [2, 8]])
    return config, {**state, "pixel_attention_mask": mask, "spatial_shapes": shapes}


PLUGIN: Family = Declared(
    "lfm2_vl",
    {
        "lfm2_vl": Variant(
            "lfm2_vl", "Lfm2VlForConditionalGeneration", layout, SHORT_ANSWERS, _tiny
        ),
    },
)
