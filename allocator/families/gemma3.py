"""Gemma 3: SigLIP tower, pooled patches, Gemma language model (arXiv 2503.19786)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Row
from allocator.families._decoders import gemma_like
from allocator.families._family import Declared, Variant
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._towers import POOLING_HEAD, tower_of
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from allocator.core.ports import Family, State


def layout(module: Any) -> Layout:
    """Where the parts of a Gemma 3 are.

    Its connector is a bare matrix, no linear layer: that stays at 16 bit.
    """
    return Layout(
        vision=tower_of(module),
        connector=(),
        language=Row(
            "language", "model.language_model.layers", gemma_like(module.config)
        ),
        rests=(POOLING_HEAD,),
    )


def _tiny() -> tuple[Any, State]:
    from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig

    config = Gemma3Config(
        vision_config=SiglipVisionConfig(
            image_size=32, patch_size=8, vision_use_head=False, **SIZES
        ),
        text_config=Gemma3TextConfig(
            vocab_size=VOCABULARY,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
            **SIZES,
        ),
        mm_tokens_per_image=4,
        boi_token_index=IMAGE + 1,
        eoi_token_index=IMAGE + 2,
        image_token_index=IMAGE,
    )
    state = two_prompts([IMAGE + 1, *[IMAGE] * 4, IMAGE + 2], (2, 3, 32, 32))
    # an image's tokens read each other both ways
    kinds = (state["input_ids"] == IMAGE).long()
    return config, {**state, "token_type_ids": kinds}


PLUGIN: Family = Declared(
    "gemma3",
    {
        "gemma3": Variant(
            "gemma3", "Gemma3ForConditionalGeneration", layout, SHORT_ANSWERS, _tiny
        ),
    },
)
