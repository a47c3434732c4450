"""SmolVLM and Idefics3: SigLIP tower, pixel shuffle, one projection, Llama.

Laurençon et al., "Building and better understanding vision-language models: insights
and future directions", arXiv 2408.12637; Marafioti et al., "SmolVLM: Redefining small
and efficient multimodal models", arXiv 2504.05299. The first SmolVLM checkpoints are
of type idefics3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import llama_like
from allocator.families._family import Declared, Variant
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._towers import CLIP
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State

# what the projection reads is shuffled from a norm: several of its channels come from
# one of the norm's, and no scale folds
CONNECTOR = (Readers("model.connector.modality_projection.proj", "all"),)


def layout(module: Any) -> Layout:
    """Where the parts of a SmolVLM are."""
    return Layout(
        vision=Row("vision", "model.vision_model.encoder.layers", CLIP),
        connector=CONNECTOR,
        language=Row("language", "model.text_model.layers", llama_like(module.config)),
    )


def _tiny(config_class: str) -> Callable[[], tuple[Any, State]]:
    """Two tiles of an image, the lower half of the last one padding."""

    def make() -> tuple[Any, State]:
        import torch
        import transformers

        config = getattr(transformers, config_class)(
            vision_config={"image_size": 16, "patch_size": 4, **SIZES},
            text_config={
                "model_type": "llama",
                "vocab_size": VOCABULARY,
                "num_key_value_heads": 2,
                **SIZES,
            },
            image_token_id=IMAGE,
            scale_factor=2,
        )
        state = two_prompts([IMAGE] * 8, (2, 2, 3, 16, 16))
        mask = torch.ones(2, 2, 16, 16, dtype=torch.long)
        mask[1, 1, 8:] = 0
        state["pixel_values"][1, 1, :, 8:] = 0
        return config, {**state, "pixel_attention_mask": mask}

    return make


def _variant(model_type: str, prefix: str) -> Variant:
    return Variant(
        model_type,
        f"{prefix}ForConditionalGeneration",
        layout,
        SHORT_ANSWERS,
        _tiny(f"{prefix}Config"),
    )


PLUGIN: Family = Declared(
    "smolvlm",
    {
        "idefics3": _variant("idefics3", "Idefics3"),
        "smolvlm": _variant("smolvlm", "SmolVLM"),
    },
)
