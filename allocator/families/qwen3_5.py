"""Qwen3.5 and 3.6: Qwen3-VL's tower, a language model three quarters of it recurrent.

Gated delta networks (arXiv 2412.06464) stand in three of four blocks, attention whose
output is gated in the fourth.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.families._any_resolution import (
    BLOCKS,
    MERGER_3,
    PLAIN_TOWER,
    TINY_TEXT,
    TINY_TOKENS,
    TINY_VISION,
    prompts,
)
from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import LLAMA
from allocator.families._experts import ROUTED, TINY_EXPERTS, found, router, shared
from allocator.families._family import Declared, Variant
from allocator.families._places import Rest
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State

# the norm in front of them feeds the gates too, which stay at 16 bit, and what the
# output projection reads has been through a norm, a head at a time: no scale folds
RECURRENT = (
    Readers("linear_attn.in_proj_qkv linear_attn.in_proj_z", "attn"),
    Readers("linear_attn.out_proj", "attn"),
)
# norms scale by 1 plus their weight; half of what queries give is the output's gate,
# which multiplies what the values gave, a channel at a time
ATTENTION = (replace(LLAMA[0], added=1.0), LLAMA[1])
FEED_FORWARD = (
    *(replace(LLAMA[2], added=1.0), LLAMA[3]),
    *ROUTED,
    *shared("shared_expert"),
)
TEXT = "model.language_model.layers"
GATES = Rest(
    rf"{re.escape(TEXT)}\.\d+\.linear_attn\.in_proj_[ab]",
    "a row a head, which says how fast a recurrent state is forgotten and rewritten",
)


def layout(module: Any) -> Layout:
    """Where the parts of a Qwen3.5 are, dense or with experts."""
    readers = found(module, TEXT, (*RECURRENT, *ATTENTION, *FEED_FORWARD))
    return Layout(
        vision=Row("vision", BLOCKS, PLAIN_TOWER),
        connector=MERGER_3,
        language=Row("language", TEXT, readers),
        rests=(GATES, router(TEXT, "mlp.shared_expert_gate")),
    )


TINY_HYBRID = {
    **TINY_TEXT,
    "head_dim": 32,
    # a quarter of each head is turned
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}


def _tiny(name: str) -> Callable[[], tuple[Any, State]]:
    def make() -> tuple[Any, State]:
        import transformers

        vision = {
            **TINY_VISION,
            "intermediate_size": 128,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
        }
        experts = {**TINY_EXPERTS, "shared_expert_intermediate_size": 64}
        config = getattr(transformers, name)(
            vision_config=vision,
            text_config={**TINY_HYBRID, **(experts if "Moe" in name else {})},
            **TINY_TOKENS,
        )
        return config, prompts()

    return make


def _variant(kind: str, name: str) -> Variant:
    return Variant(
        kind,
        f"{name}ForConditionalGeneration",
        layout,
        SHORT_ANSWERS,
        _tiny(f"{name}Config"),
    )


PLUGIN: Family = Declared(
    "qwen3_5",
    {
        "dense": _variant("qwen3_5", "Qwen3_5"),
        "moe": _variant("qwen3_5_moe", "Qwen3_5Moe"),
    },
)
