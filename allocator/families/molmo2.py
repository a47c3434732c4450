"""Molmo 2: crops of a picture pooled by attention, added to words; Qwen 3 or OLMo.

Clark et al., "Molmo2: Open Weights and Data for Vision-Language Models with Video
Understanding and Grounding", arXiv 2601.10611.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import LLAMA
from allocator.families._family import Declared, Variant
from allocator.families._places import Rest
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._towers import CLIP
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State

TOWER = (
    CLIP[0],
    Readers("self_attn.o_proj", "attn", "self_attn.v_proj"),
    *CLIP[2:],
)
POOLING = "model.multi_modal_projector.image_pooling_2d"
PROJECTOR = "model.multi_modal_projector.image_projector"
# what asks is the mean of the patches that are pooled, what is asked the patches
CONNECTOR = (
    Readers(f"{POOLING}.q_proj", "all"),
    Readers(f"{POOLING}.k_proj {POOLING}.v_proj", "all"),
    Readers(f"{POOLING}.o_proj", "all", f"{POOLING}.v_proj"),
    Readers(f"{PROJECTOR}.gate_proj {PROJECTOR}.up_proj", "all", f"{POOLING}.o_proj"),
    Readers(f"{PROJECTOR}.down_proj", "all", f"{PROJECTOR}.up_proj"),
)
# as OLMo's, norms may stand behind attention and feed-forward: those feed the residual
NORMS_BEHIND = (
    replace(LLAMA[0], fold=None),
    LLAMA[1],
    replace(LLAMA[2], fold=None),
    LLAMA[3],
)
PATCHES = Rest(
    r"model\.vision_tower\.patch_embedding", "patch embedding, which reads the pixels"
)


def layout(module: Any) -> Layout:
    """Where the parts of a Molmo 2 are."""
    config = module.config
    return Layout(
        vision=Row("vision", "model.vision_tower.layers", TOWER),
        connector=CONNECTOR,
        language=Row(
            "language",
            "model.language_model.layers",
            NORMS_BEHIND if config.text_config.norm_after else LLAMA,
        ),
        rests=(PATCHES,),
        reads=tuple(config.adapter_config.vision_feature_layer),
    )


def _tiny(norms: str) -> Callable[[], tuple[Any, State]]:
    """Norms of queries and keys as one kind of language model has them."""

    def make() -> tuple[Any, State]:
        from transformers import Molmo2Config

        config = Molmo2Config(
            vision_config={**TINY_VISION, "num_key_value_heads": 4},
            adapter_config=TINY_ADAPTER,
            text_config={
                **TINY_TEXT,
                "qk_norm_type": norms,
                "norm_after": norms == "olmo",
            },
            image_patch_id=IMAGE,
            image_start_token_id=IMAGE + 1,
            image_end_token_id=IMAGE + 2,
        )
        return config, _prompts()

    return make


# pictures are to matter beside the words that they are added to
TINY_SIZES = {**SIZES, "head_dim": 16, "initializer_range": 0.08}
TINY_VISION = {**TINY_SIZES, "image_size": [16, 16], "patch_size": 4}
TINY_ADAPTER = {
    "vision_feature_layer": [1, 0],
    "hidden_size": 64,
    "intermediate_size": 128,
    "text_hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "initializer_range": 0.08,
}
TINY_TEXT = {
    **SIZES,
    "head_dim": 16,
    "vocab_size": VOCABULARY - 2,
    "additional_vocab_size": 2,
    "num_key_value_heads": 2,
    "rope_scaling_layers": [1],
    "rope_parameters": {"rope_type": "linear", "factor": 2.0},
}


def _prompts() -> State:
    """Two crops of 16 patches a picture; four patches are pooled to a token, or two."""
    import torch

    state = two_prompts([IMAGE + 1, *[IMAGE] * 6, IMAGE + 2], (4, 16, 3 * 4 * 4))
    pooled = torch.arange(32).view(8, 4)
    # four tokens of the first crop; of the second two, one of them at an edge
    pooled = torch.stack([*pooled[:5], torch.tensor([22, 23, -1, -1])])
    kinds = (state["input_ids"] >= IMAGE) & (state["input_ids"] <= IMAGE + 2)
    return {
        **state,
        "image_token_pooling": torch.cat([pooled, pooled + 32 * (pooled >= 0)]),
        "image_grids": torch.tensor([[2, 2, 1, 2]] * 2),
        "image_num_crops": torch.tensor([2, 2]),
        "mm_token_type_ids": kinds.long(),
    }


def _variant(norms: str) -> Variant:
    return Variant(
        "molmo2",
        "Molmo2ForConditionalGeneration",
        layout,
        SHORT_ANSWERS,
        _tiny(norms),
    )


PLUGIN: Family = Declared("molmo2", {n: _variant(n) for n in ("qwen3", "olmo")})
