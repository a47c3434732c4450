"""The vision towers of CLIP and SigLIP, which several families have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._blocks import Readers, Row
from allocator.families._places import Rest

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIP_LIKE = ("clip_vision_model", "siglip_vision_model")
# both are named alike
CLIP = (
    Readers(
        "self_attn.q_proj self_attn.k_proj self_attn.v_proj", "attn", "layer_norm1"
    ),
    Readers("self_attn.out_proj", "attn", "self_attn.v_proj"),
    Readers("mlp.fc1", "ff", "layer_norm2"),
    Readers("mlp.fc2", "ff"),
)
POOLING_HEAD = Rest(
    r"model\.vision_tower\.(vision_model\.)?head\..+",
    "pooling head: the language model reads the patches, not what it pools",
)


def tower_of(module: Any, known: Sequence[str] = CLIP_LIKE) -> Row:
    """The blocks of a model's `vision_tower`, named as CLIP's are.

    Raises:
        ModelError: the tower is none of the known ones.
    """
    kind = module.config.vision_config.model_type
    if kind not in known:
        raise ModelError(
            f"the vision tower of this {module.config.model_type!r} model is a "
            f"{kind!r}; known are {', '.join(known)}"
        )
    path = "model.vision_tower.encoder.layers"
    if hasattr(module.model.vision_tower, "vision_model"):
        path = "model.vision_tower.vision_model.encoder.layers"
    return Row("vision", path, CLIP)


def blocks_behind(layers: int | Sequence[int], blocks: int) -> tuple[int, ...]:
    """Numbers of the blocks that give some hidden states; 0 stands before them all.

    >>> blocks_behind([3, -2], 24)
    (2, -2)

    Raises:
        ModelError: one that a tower of so many blocks does not have.
    """
    numbers = [layers] if isinstance(layers, int) else layers
    beyond = [n for n in numbers if not -blocks <= n <= blocks]
    if beyond:
        raise ModelError(
            f"config.json has vision_feature_layer {beyond[0]}, and its vision tower "
            f"has {blocks} blocks"
        )
    return tuple(n - 1 if n > 0 else n for n in numbers if n)
