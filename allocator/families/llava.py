"""LLaVA: CLIP or SigLIP tower, two-layer projector, Llama-like language model.

LLaVA-1.5 (arXiv 2310.03744), LLaVA-NeXT, which shows a picture in tiles too
(https://llava-vl.github.io/blog/2024-01-30-llava-next), and LLaVA-OneVision
(arXiv 2408.03326).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import llama_like
from allocator.families._family import Declared, Variant
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._towers import POOLING_HEAD, blocks_behind, tower_of
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from allocator.core.ports import Family, State

# image prompts of the authors' evaluation of 1.5, for checkpoints without a template;
# the one of llava-hf/llava-1.5-7b-hf makes the same of SHORT_ANSWERS
PROMPTS = {
    kind: f"USER: <image>\n{words} ASSISTANT:" for kind, words in SHORT_ANSWERS.items()
}
PROJECTOR = (
    Readers("model.multi_modal_projector.linear_1", "all"),
    Readers("model.multi_modal_projector.linear_2", "all"),
)
TILE, PATCH = 16, 8


def layout(module: Any) -> Layout:
    """Where the parts of a LLaVA are.

    The tower's blocks behind the features are in its groups although nothing reads
    them: a checkpoint stores them, and transformers runs them.
    """
    return Layout(
        vision=tower_of(module),
        connector=PROJECTOR,
        language=Row(
            "language", "model.language_model.layers", llama_like(module.config)
        ),
        rests=(POOLING_HEAD,),
        reads=blocks_behind(
            module.config.vision_feature_layer,
            module.config.vision_config.num_hidden_layers,
        ),
    )


def _tiny() -> tuple[Any, State]:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=TILE, patch_size=PATCH, **SIZES),
        text_config=LlamaConfig(vocab_size=VOCABULARY, **SIZES),
        image_token_index=IMAGE,
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    return config, two_prompts([IMAGE] * 4, (2, 3, TILE, TILE))


def _tiled() -> tuple[dict[str, Any], State]:
    """What NeXT and OneVision configure alike, and two prompts.

    A picture as wide as two tiles: 4 patches of it in small, then the two tiles in two
    rows of 4 patches, each row with a newline behind.
    """
    import torch

    sizes = {
        "image_token_index": IMAGE,
        "image_grid_pinpoints": [[TILE, 2 * TILE], [2 * TILE, 2 * TILE]],
    }
    state = two_prompts([IMAGE] * (4 + 2 * (4 + 1)), (2, 3, 3, TILE, TILE))
    return sizes, {**state, "image_sizes": torch.tensor([[TILE, 2 * TILE]] * 2)}


def _tiny_next() -> tuple[Any, State]:
    from transformers import CLIPVisionConfig, LlavaNextConfig, MistralConfig

    sizes, state = _tiled()
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(image_size=TILE, patch_size=PATCH, **SIZES),
        text_config=MistralConfig(
            vocab_size=VOCABULARY, num_key_value_heads=2, head_dim=16, **SIZES
        ),
        **sizes,
    )
    return config, state


def _tiny_onevision() -> tuple[Any, State]:
    from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

    sizes, state = _tiled()
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            image_size=TILE, patch_size=PATCH, vision_use_head=False, **SIZES
        ),
        text_config=Qwen2Config(
            vocab_size=VOCABULARY,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            **SIZES,
        ),
        video_token_index=IMAGE + 1,
        **sizes,
    )
    return config, state


PLUGIN: Family = Declared(
    "llava",
    {
        "1.5": Variant(
            "llava",
            "LlavaForConditionalGeneration",
            layout,
            PROMPTS,
            _tiny,
            chat=False,
            within=SHORT_ANSWERS,
        ),
        "next": Variant(
            "llava_next",
            "LlavaNextForConditionalGeneration",
            layout,
            SHORT_ANSWERS,
            _tiny_next,
        ),
        "onevision": Variant(
            "llava_onevision",
            "LlavaOnevisionForConditionalGeneration",
            layout,
            SHORT_ANSWERS,
            _tiny_onevision,
        ),
    },
)
