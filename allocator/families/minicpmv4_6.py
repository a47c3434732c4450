"""MiniCPM-V 4.6: SigLIP 2 tower that merges patches on its way, Qwen3.5.

Behind one of its blocks windows of four patches see each other and become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._blocks import Inserted, Layout, Readers, Row
from allocator.families._decoders import llama_like
from allocator.families._family import Declared, Variant
from allocator.families._hybrid import (
    ATTENTION,
    DENSE,
    GATES,
    RECURRENT,
    TEXT,
    TINY_HYBRID,
)
from allocator.families._tiny import IMAGE, SIZES, two_prompts
from allocator.families._towers import CLIP
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from allocator.core.ports import Family, State

# a block without feed-forward; what is merged reads windows whole, norm and all
WINDOWS = (
    *CLIP[:2],
    Readers("linear_1", "ff", "pre_norm"),
    Readers("linear_2", "ff"),
)


def layout(module: Any) -> Layout:
    """Where the parts of a MiniCPM-V 4.6 are.

    Raises:
        ModelError: patches are not merged within the tower, or its language part is
            another one.
    """
    # checks that it is what the readers describe
    llama_like(module.config, ("qwen3_5_text",))
    vision = module.config.vision_config
    behind, mode = vision.insert_layer_id, module.config.downsample_mode
    if mode != "16x" or not 0 <= behind < vision.num_hidden_layers - 1:
        raise ModelError(
            f"config.json has downsample_mode {mode!r} and insert_layer_id {behind}; "
            "read are '16x' and a block in front of the last one"
        )
    mergers = (f"model.merger.mlp.{n}" for n in range(module.config.merger_times))
    return Layout(
        vision=Row("vision", "model.vision_tower.encoder.layers", CLIP),
        inserted=Inserted("model.vision_tower.vit_merger", behind, WINDOWS),
        connector=tuple(reader for path in mergers for reader in _merger(path)),
        language=Row("language", TEXT, (*RECURRENT, *ATTENTION, *DENSE)),
        rests=(GATES,),
    )


def _merger(path: str) -> tuple[Readers, ...]:
    """Two layers that read four patches side by side, as their norm does."""
    return (
        Readers(f"{path}.linear_1", "all", f"{path}.pre_norm"),
        Readers(f"{path}.linear_2", "all"),
    )


def _tiny() -> tuple[Any, State]:
    """A square and a wide picture of 64 patches; sixteen make one token."""
    import torch
    from transformers import MiniCPMV4_6Config

    config = MiniCPMV4_6Config(
        vision_config={"image_size": 32, "patch_size": 4, **SIZES},
        text_config={**TINY_HYBRID, "model_type": "qwen3_5_text"},
        insert_layer_id=0,
        image_token_id=IMAGE,
        video_token_id=5,
    )
    # patches of both stand in one row
    state = two_prompts([60, *[IMAGE] * 4, 61], (1, 3, 4, 128 * 4))
    return config, {**state, "target_sizes": torch.tensor([[8, 8], [4, 16]])}


PLUGIN: Family = Declared(
    "minicpmv4_6",
    {
        "minicpmv4_6": Variant(
            "minicpmv4_6",
            "MiniCPMV4_6ForConditionalGeneration",
            layout,
            SHORT_ANSWERS,
            _tiny,
        ),
    },
)
