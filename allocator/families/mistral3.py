"""Mistral Small 3.1 and later, Ministral 3: Pixtral tower, patch merger, Mistral.

The tower is that of Pixtral (arXiv 2410.07073): pictures of any shape, one behind the
other in a row, each of which sees itself alone.
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

TOWER = (
    Readers(
        "attention.q_proj attention.k_proj attention.v_proj", "attn", "attention_norm"
    ),
    Readers("attention.o_proj", "attn", "attention.v_proj"),
    Readers("feed_forward.gate_proj feed_forward.up_proj", "ff", "ffn_norm"),
    Readers("feed_forward.down_proj", "ff", "feed_forward.up_proj"),
)
MERGER = "model.multi_modal_projector.patch_merger.merging_layer"
# what merges reads patches side by side, several channels of one of the norm's: no
# scale folds
CONNECTOR = (
    Readers(MERGER, "all"),
    Readers("model.multi_modal_projector.linear_1", "all", MERGER),
    Readers("model.multi_modal_projector.linear_2", "all"),
)
TEXTS = ("mistral", "ministral3")


def layout(module: Any) -> Layout:
    """Where the parts of a Mistral 3 are."""
    return Layout(
        vision=Row("vision", "model.vision_tower.transformer.layers", TOWER),
        connector=CONNECTOR,
        language=Row(
            "language", "model.language_model.layers", llama_like(module.config, TEXTS)
        ),
        reads=blocks_behind(
            module.config.vision_feature_layer,
            module.config.vision_config.num_hidden_layers,
        ),
    )


def _tiny(text: str) -> Callable[[], tuple[Any, State]]:
    """A square and a wide picture of 16 patches; four patches make one token."""

    def make() -> tuple[Any, State]:
        import torch
        from transformers import Mistral3Config

        config = Mistral3Config(
            vision_config={
                "model_type": "pixtral",
                "image_size": 32,
                "patch_size": 4,
                "head_dim": 16,
                **SIZES,
            },
            text_config={
                "model_type": text,
                "vocab_size": VOCABULARY,
                "num_key_value_heads": 2,
                "head_dim": 16,
                **SIZES,
            },
            image_token_index=IMAGE,
            tie_word_embeddings=text != "mistral",
        )
        # each row of tokens ends in a mark
        rows = [IMAGE, IMAGE, IMAGE + 1] * 2
        state = two_prompts(rows, (2, 3, 16, 32))
        return config, {**state, "image_sizes": torch.tensor([[16, 16], [8, 32]])}

    return make


def _variant(text: str) -> Variant:
    return Variant(
        "mistral3",
        "Mistral3ForConditionalGeneration",
        layout,
        SHORT_ANSWERS,
        _tiny(text),
        # a head of their own, unless config.json says otherwise
        tied=False,
    )


PLUGIN: Family = Declared("mistral3", {text: _variant(text) for text in TEXTS})
