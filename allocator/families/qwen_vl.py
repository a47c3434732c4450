"""Qwen-VL: a vision tower of any resolution, patch merger, Qwen language model.

Qwen2-VL (arXiv 2409.12191), Qwen2.5-VL (arXiv 2502.13923), Qwen3-VL (arXiv 2511.21631).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._any_resolution import (
    ATTENTION,
    BLOCKS,
    GATED_TOWER,
    MERGER_3,
    PLAIN_TOWER,
    TINY_TEXT,
    TINY_TOKENS,
    TINY_VISION,
    lay_out_deltas,
    prompts,
)
from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import LLAMA
from allocator.families._experts import ROUTED, TINY_EXPERTS, found, router
from allocator.families._family import Declared, Variant
from allocator.families._sharing import of_samples
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from allocator.core.ports import Family, State

TOWER_2 = (
    *ATTENTION,
    Readers("mlp.fc1", "ff", "norm2"),
    Readers("mlp.fc2", "ff"),
)
# its norm sees single patches, its linears four side by side: no scale folds
MERGER = (
    Readers("model.visual.merger.mlp.0", "all"),
    Readers("model.visual.merger.mlp.2", "all"),
)
LANGUAGE = Row("language", "model.language_model.layers", LLAMA)


def layout_2(_: Any) -> Layout:
    """Where the parts of a Qwen2-VL are."""
    return Layout(Row("vision", BLOCKS, TOWER_2), MERGER, LANGUAGE)


def layout_25(_: Any) -> Layout:
    """Where the parts of a Qwen2.5-VL are."""
    return Layout(Row("vision", BLOCKS, GATED_TOWER), MERGER, LANGUAGE)


def layout_3(module: Any) -> Layout:
    """Where the parts of a Qwen3-VL are.

    Features of several vision blocks, each with a merger of its own, are added to what
    the first language blocks give.
    """
    depths = module.config.vision_config.deepstack_visual_indexes
    readers = found(module, LANGUAGE.path, (*LLAMA, *ROUTED))
    return Layout(
        vision=Row("vision", BLOCKS, PLAIN_TOWER),
        connector=(*MERGER_3, *(r for n in range(len(depths)) for r in _deep(n))),
        language=Row("language", LANGUAGE.path, readers),
        rests=(router(LANGUAGE.path),),
        reads=(*depths, -1),
        between=_add_features,
    )


def _deep(number: int) -> tuple[Readers, ...]:
    """One of the further mergers; its norm sees four patches side by side."""
    path = f"model.visual.deepstack_merger_list.{number}"
    return (
        Readers(f"{path}.linear_fc1", "all", f"{path}.norm"),
        Readers(f"{path}.linear_fc2", "all"),
    )


def _add_features(module: Any, state: State, number: int, hidden: Any) -> Any:
    """What a language block gives, with its features added where the image stands."""
    import torch

    image = module.config.image_token_id
    if number >= len(state["features"].deepstack_features):
        return hidden
    deep = of_samples(state, image)["features"].deepstack_features
    shown = state["input_ids"] == image
    text = module.model.language_model
    return text._deepstack_process(hidden, shown, torch.cat(tuple(deep[number])))


def _tiny_2() -> tuple[Any, State]:
    from transformers import Qwen2VLConfig

    vision = {**TINY_VISION, "embed_dim": 64, "mlp_ratio": 2}
    config = Qwen2VLConfig(vision_config=vision, text_config=TINY_TEXT, **TINY_TOKENS)
    return config, prompts()


def _tiny_25() -> tuple[Any, State]:
    from transformers import Qwen2_5_VLConfig

    # the first block attends within windows of 16 x 16 pixels, the second to all
    vision = {
        **TINY_VISION,
        "intermediate_size": 128,
        "out_hidden_size": 64,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        vision_config=vision, text_config=TINY_TEXT, **TINY_TOKENS
    )
    return config, prompts()


def _vision_3() -> dict[str, Any]:
    return {
        **TINY_VISION,
        "intermediate_size": 128,
        "out_hidden_size": 64,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }


def _tiny_3() -> tuple[Any, State]:
    from transformers import Qwen3VLConfig

    config = Qwen3VLConfig(
        vision_config=_vision_3(),
        text_config={**TINY_TEXT, "head_dim": 16},
        tie_word_embeddings=True,
        **TINY_TOKENS,
    )
    return config, prompts()


def _tiny_3_experts() -> tuple[Any, State]:
    from transformers import Qwen3VLMoeConfig

    # a dense block, then one with experts
    text = {**TINY_TEXT, "head_dim": 16, **TINY_EXPERTS, "mlp_only_layers": [0]}
    config = Qwen3VLMoeConfig(
        vision_config=_vision_3(), text_config=text, **TINY_TOKENS
    )
    return config, prompts()


PLUGIN: Family = Declared(
    "qwen_vl",
    {
        "2": Variant(
            "qwen2_vl",
            "Qwen2VLForConditionalGeneration",
            layout_2,
            SHORT_ANSWERS,
            _tiny_2,
            lay_out=lay_out_deltas,
        ),
        "2.5": Variant(
            "qwen2_5_vl",
            "Qwen2_5_VLForConditionalGeneration",
            layout_25,
            SHORT_ANSWERS,
            _tiny_25,
            lay_out=lay_out_deltas,
        ),
        "3": Variant(
            "qwen3_vl",
            "Qwen3VLForConditionalGeneration",
            layout_3,
            SHORT_ANSWERS,
            _tiny_3,
            lay_out=lay_out_deltas,
        ),
        "3-moe": Variant(
            "qwen3_vl_moe",
            "Qwen3VLMoeForConditionalGeneration",
            layout_3,
            SHORT_ANSWERS,
            _tiny_3_experts,
            lay_out=lay_out_deltas,
        ),
    },
)
