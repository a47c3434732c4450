"""InternVL: InternViT, pixel shuffle, two-layer projector, Qwen or Llama.

Zhu et al., "InternVL3", arXiv 2504.10479. The checkpoints that transformers reads by
its own code (names that end in -hf), not those that bring theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import llama_like
from allocator.families._family import Declared, Variant
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._towers import blocks_behind
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State

# the norms of queries and keys stand behind these linears, the scale of each layer
# behind the last of them: neither is in the way of a fold
VISION = (
    Readers(
        "attention.q_proj attention.k_proj attention.v_proj", "attn", "layernorm_before"
    ),
    Readers("attention.projection_layer", "attn", "attention.v_proj"),
    Readers("mlp.fc1", "ff", "layernorm_after"),
    Readers("mlp.fc2", "ff"),
)
PROJECTOR = (
    Readers(
        "model.multi_modal_projector.linear_1",
        "all",
        "model.multi_modal_projector.layer_norm",
    ),
    Readers("model.multi_modal_projector.linear_2", "all"),
)
TEXTS = ("llama", "qwen2", "qwen3")


def layout(module: Any) -> Layout:
    """Where the parts of an InternVL are."""
    return Layout(
        vision=Row("vision", "model.vision_tower.encoder.layer", VISION),
        connector=PROJECTOR,
        language=Row(
            "language", "model.language_model.layers", llama_like(module.config, TEXTS)
        ),
        reads=blocks_behind(
            module.config.vision_feature_layer,
            module.config.vision_config.num_hidden_layers,
        ),
    )


def _tiny(text: str) -> Callable[[], tuple[Any, State]]:
    """A class token and 16 patches, shuffled into 4 image tokens."""

    def make() -> tuple[Any, State]:
        from transformers import InternVLConfig

        config = InternVLConfig(
            vision_config={
                "image_size": 16,
                "patch_size": 4,
                "attention_bias": text != "llama",
                "use_qk_norm": text == "llama",
                **SIZES,
            },
            text_config={
                "model_type": text,
                "vocab_size": VOCABULARY,
                "num_key_value_heads": 2,
                **SIZES,
            },
            image_token_id=IMAGE,
            image_seq_length=4,
            tie_word_embeddings=text == "llama",
        )
        return config, two_prompts([IMAGE] * 4, (2, 3, 16, 16))

    return make


def _variant(text: str) -> Variant:
    return Variant(
        "internvl",
        "InternVLForConditionalGeneration",
        layout,
        SHORT_ANSWERS,
        _tiny(text),
        # all published ones store a head of their own, and no config.json says so
        tied=False,
    )


PLUGIN: Family = Declared("internvl", {text: _variant(text) for text in TEXTS})
