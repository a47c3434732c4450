"""Qwen3.5 and 3.6: Qwen3-VL's tower, a language model three quarters of it recurrent.

Gated delta networks (arXiv 2412.06464) stand in three of four blocks, attention whose
output is gated in the fourth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._any_resolution import (
    BLOCKS,
    MERGER_3,
    PLAIN_TOWER,
    TINY_TOKENS,
    TINY_VISION,
    prompts,
)
from allocator.families._blocks import Layout, Row
from allocator.families._experts import ROUTED, TINY_EXPERTS, found, router, shared
from allocator.families._family import Declared, Variant
from allocator.families._hybrid import (
    ATTENTION,
    DENSE,
    GATES,
    RECURRENT,
    TEXT,
    TINY_HYBRID,
)
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State

FEED_FORWARD = (
    *DENSE,
    *ROUTED,
    *shared("shared_expert"),
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
