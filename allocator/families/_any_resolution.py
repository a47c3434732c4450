"""Towers of any resolution, whose patches lie in one row: Qwen's and GLM's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Readers
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts

if TYPE_CHECKING:
    from allocator.core.ports import State

# query, key and value are one linear; the projection reads a mixture of a third of what
# it gives, so no scale of the projection's folds into it
ATTENTION = (
    Readers("attn.qkv", "attn", "norm1"),
    Readers("attn.proj", "attn"),
)
GATED_TOWER = (
    *ATTENTION,
    Readers("mlp.gate_proj mlp.up_proj", "ff", "norm2"),
    Readers("mlp.down_proj", "ff", "mlp.up_proj"),
)
PLAIN_TOWER = (
    *ATTENTION,
    Readers("mlp.linear_fc1", "ff", "norm2"),
    Readers("mlp.linear_fc2", "ff"),
)
# its norm sees single patches, its linears four side by side: no scale folds
MERGER_3 = (
    Readers("model.visual.merger.linear_fc1", "all"),
    Readers("model.visual.merger.linear_fc2", "all"),
)
BLOCKS = "model.visual.blocks"


def lay_out_deltas(module: Any, picture: Any) -> None:
    """How far the words behind each picture are moved, once for each sample.

    Args:
        module: keeps it of the pictures that it has read.
        picture: the row of each sample's picture: [batch].
    """
    module.model.rope_deltas = module.model.rope_deltas[picture]


# two images of 32 patches, one lying and one standing; four patches make one token
TINY_GRIDS = ((1, 4, 8), (1, 8, 4))
TINY_VISION = {
    "depth": 2,
    "num_heads": 4,
    "patch_size": 4,
    "hidden_size": 64,
    "initializer_range": 0.2,
}
TINY_TEXT = {
    **SIZES,
    "vocab_size": VOCABULARY,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
    "initializer_range": 0.2,
    "bos_token_id": 1,  # nosec B105: a number of a token
    "eos_token_id": 2,  # nosec B105: a number of a token
    "pad_token_id": 0,  # nosec B105: a number of a token
}
TINY_TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": 5,  # nosec B105: a number of a token
    "vision_start_token_id": 60,  # nosec B105: a number of a token
    "vision_end_token_id": 61,  # nosec B105: a number of a token
}


def prompts() -> State:
    """Two prompts; patches of both images lie in one row, two frames of each alike."""
    import torch

    state = two_prompts([IMAGE] * 8, (2 * 32, 3 * 2 * 4 * 4))
    return {
        **state,
        "image_grid_thw": torch.tensor(TINY_GRIDS),
        "mm_token_type_ids": (state["input_ids"] == IMAGE).int(),
    }
