"""PaliGemma: SigLIP tower, one linear projector, Gemma language model.

PaliGemma (arXiv 2407.07726) and PaliGemma 2 (arXiv 2412.03555).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import capped, gemma_like
from allocator.families._family import Declared, Variant
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._towers import POOLING_HEAD, tower_of

if TYPE_CHECKING:
    from allocator.core.ports import Family, State

# task prefixes of the paper
PROMPTS = {
    "vqa": "<image>answer en {}",
    "gqa": "<image>answer en {}",
    "caption": "<image>caption en",
    "plain": "<image>{}",
}


def layout(module: Any) -> Layout:
    """Where the parts of a PaliGemma are; in version 2 the logits have a cap."""
    cap = getattr(module.config.get_text_config(), "final_logit_softcapping", None)
    return Layout(
        vision=tower_of(module),
        connector=(Readers("model.multi_modal_projector.linear", "all"),),
        language=Row(
            "language", "model.language_model.layers", gemma_like(module.config)
        ),
        rests=(POOLING_HEAD,),
        behind=capped(cap),
    )


def _tiny(text: Any) -> tuple[Any, State]:
    import torch
    from transformers import PaliGemmaConfig, SiglipVisionConfig

    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(
            image_size=16, patch_size=8, vision_use_head=False, **SIZES
        ),
        text_config=text,
        image_token_index=IMAGE,
        projection_dim=64,
        hidden_size=64,
    )
    state = two_prompts([IMAGE] * 4, (2, 3, 16, 16))
    # all of a prompt is read both ways
    kinds = torch.zeros_like(state["input_ids"])
    return config, {**state, "token_type_ids": kinds}


def _tiny_1() -> tuple[Any, State]:
    from transformers import GemmaConfig

    return _tiny(
        GemmaConfig(vocab_size=VOCABULARY, num_key_value_heads=1, head_dim=16, **SIZES)
    )


def _tiny_2() -> tuple[Any, State]:
    from transformers import Gemma2Config

    return _tiny(
        Gemma2Config(
            vocab_size=VOCABULARY,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=4,
            final_logit_softcapping=1.0,
            **SIZES,
        )
    )


PLUGIN: Family = Declared(
    "paligemma",
    {
        name: Variant(
            "paligemma",
            "PaliGemmaForConditionalGeneration",
            layout,
            PROMPTS,
            tiny,
            chat=False,
            suffix=True,
            prefix_lm=True,
        )
        for name, tiny in {"1": _tiny_1, "2": _tiny_2}.items()
    },
)
