"""Gemma 4: a tower for any shape of picture, Gemma with sliding and full attention.

The small ones (E2B, E4B) have inputs of their own for each block, and later blocks that
read the keys and values of earlier ones; the larger ones use keys as values, and one
has experts beside its feed-forward part. As in transformers; Google's model cards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import capped
from allocator.families._family import Declared, Variant
from allocator.families._places import Rest
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State

# its norms scale by their weight. A norm behind the values stands between them and the
# output: no scale folds there
TOWER = (
    Readers(
        "self_attn.q_proj.linear self_attn.k_proj.linear self_attn.v_proj.linear",
        "attn",
        "input_layernorm",
    ),
    Readers("self_attn.o_proj.linear", "attn"),
    Readers(
        "mlp.gate_proj.linear mlp.up_proj.linear", "ff", "pre_feedforward_layernorm"
    ),
    Readers("mlp.down_proj.linear", "ff", "mlp.up_proj.linear"),
)
# blocks that read keys and values of others have none of their own, and those that use
# keys as values have no values
LANGUAGE = (
    Readers(
        "self_attn.q_proj self_attn.k_proj self_attn.v_proj", "attn", "input_layernorm"
    ),
    Readers("self_attn.o_proj", "attn"),
    Readers("mlp.gate_proj mlp.up_proj", "ff", "pre_feedforward_layernorm"),
    Readers("mlp.down_proj", "ff", "mlp.up_proj"),
)
PER_LAYER = (
    Readers("per_layer_input_gate", "ff"),
    Readers("per_layer_projection", "ff"),
)
EXPERTS = (
    Readers("experts.gate_up_proj", "ff", experts=True),
    Readers("experts.down_proj", "ff", experts=True),
)
CONNECTOR = (Readers("model.embed_vision.embedding_projection", "all"),)
RESTS = (
    Rest(
        r"model\.vision_tower\.patch_embedder\.input_proj",
        "patch embedding, which reads the pixels",
    ),
    Rest(
        r"model\.(audio_tower|embed_audio)\..+",
        "audio side: nothing is heard here",
    ),
    Rest(
        r"model\.language_model\.per_layer_model_projection",
        "makes the inputs of all blocks at once, and is small",
    ),
    Rest(
        r"model\.language_model\.embed_tokens_per_layer",
        "embeddings for each block, looked up and never multiplied",
    ),
    Rest(
        r"model\.language_model\.layers\.\d+\.router\.proj",
        "router, which chooses experts",
    ),
)


def layout(module: Any) -> Layout:
    """Where the parts of a Gemma 4 are."""
    text, vision = module.config.text_config, module.config.vision_config
    own = PER_LAYER if text.hidden_size_per_layer_input else ()
    experts = EXPERTS if text.enable_moe_block else ()
    return Layout(
        vision=Row(
            "vision",
            "model.vision_tower.encoder.layers",
            _apart(TOWER) if vision.use_clipped_linears else TOWER,
        ),
        connector=CONNECTOR,
        language=Row(
            "language", "model.language_model.layers", (*LANGUAGE, *experts, *own)
        ),
        rests=RESTS,
        behind=capped(text.final_logit_softcapping),
        idle=("model.audio_tower", "model.embed_audio"),
    )


def _apart(several: tuple[Readers, ...]) -> tuple[Readers, ...]:
    """Linears that clip what they read and give, each by bounds of its own.

    So they do not read the same, and a scale in front would be clipped with it.
    """
    return tuple(Readers(n, each.type) for each in several for n in each.names.split())


def _tiny(**text: Any) -> Callable[[], tuple[Any, State]]:
    """With what sets a kind apart in its language part; small ones hear, too."""

    def make() -> tuple[Any, State]:
        from transformers import Gemma4Config

        small = "hidden_size_per_layer_input" in text
        config = Gemma4Config(
            vision_config={
                **TINY_VISION,
                "use_clipped_linears": small,
                "standardize": not small,
            },
            text_config={**TINY_TEXT, **text},
            audio_config=TINY_AUDIO if small else None,
            boi_token_id=IMAGE + 1,
            eoi_token_id=IMAGE + 2,
            image_token_id=IMAGE,
            video_token_id=60,
            audio_token_id=61,
        )
        return config, _prompts()

    return make


TINY_VISION = {
    **SIZES,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "patch_size": 4,
    "pooling_kernel_size": 2,
    "position_embedding_size": 160,
}
TINY_TEXT = {
    **SIZES,
    "hidden_size_per_layer_input": 0,
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
    "final_logit_softcapping": 2.0,
}
TINY_AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "subsampling_conv_channels": [8, 4],
    "output_proj_dims": 32,
}


def _prompts() -> State:
    """Two pictures of 16 patches each, padded to 20; four patches make one token."""
    import torch

    state = two_prompts([IMAGE + 1, *[IMAGE] * 4, IMAGE + 2], (2, 20, 3 * 4 * 4))
    places = torch.full((2, 20, 2), -1)
    for picture, wide in zip(places, (4, 8), strict=True):
        at = torch.arange(16)
        picture[:16] = torch.stack([at % wide, at // wide], 1)
    kinds = (state["input_ids"] == IMAGE).long()
    return {**state, "image_position_ids": places, "mm_token_type_ids": kinds}


def _variant(**text: Any) -> Variant:
    return Variant(
        "gemma4",
        "Gemma4ForConditionalGeneration",
        layout,
        SHORT_ANSWERS,
        _tiny(**text),
    )


PLUGIN: Family = Declared(
    "gemma4",
    {
        "small": _variant(
            num_hidden_layers=4,
            layer_types=["sliding_attention", "full_attention"] * 2,
            num_kv_shared_layers=2,
            use_double_wide_mlp=True,
            hidden_size_per_layer_input=16,
        ),
        "large": _variant(
            attention_k_eq_v=True,
            num_global_key_value_heads=1,
            use_bidirectional_attention="vision",
        ),
        "moe": _variant(
            attention_k_eq_v=True,
            num_global_key_value_heads=1,
            use_bidirectional_attention="vision",
            enable_moe_block=True,
            num_experts=4,
            top_k_experts=2,
            moe_intermediate_size=96,
        ),
    },
)
