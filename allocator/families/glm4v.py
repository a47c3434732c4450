"""GLM-V: a tower of any resolution, patches put together by a convolution, a GLM.

GLM-4.1V and 4.5V (arXiv 2507.01006), GLM-4.6V.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.families._any_resolution import (
    BLOCKS,
    GATED_TOWER,
    TINY_TEXT,
    TINY_TOKENS,
    TINY_VISION,
    lay_out_deltas,
    prompts,
)
from allocator.families._blocks import Layout, Readers, Row
from allocator.families._decoders import LLAMA
from allocator.families._family import Declared, Variant
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.ports import Family, State

# a convolution stands in front, and between its norm and what follows an activation
MERGER = (
    Readers("model.visual.merger.proj", "all"),
    Readers("model.visual.merger.gate_proj model.visual.merger.up_proj", "all"),
    Readers("model.visual.merger.down_proj", "all", "model.visual.merger.up_proj"),
)
# norms stand behind attention and feed-forward too: those feed the residual. Gate and
# up projection are one linear, of which the down projection reads half
DENSE = (
    *LLAMA[:2],
    Readers("mlp.gate_up_proj", "ff", "post_attention_layernorm"),
    Readers("mlp.down_proj", "ff"),
)


def layout(_: Any) -> Layout:
    """Where the parts of a GLM-V are."""
    return Layout(
        vision=Row("vision", BLOCKS, GATED_TOWER),
        connector=MERGER,
        language=Row("language", "model.language_model.layers", DENSE),
    )


def _tiny(kind: str) -> Callable[[], tuple[Any, State]]:
    def make() -> tuple[Any, State]:
        import transformers

        vision = {
            **TINY_VISION,
            "image_size": 16,
            "intermediate_size": 128,
            "out_hidden_size": 64,
        }
        # half of each head is turned
        rope = {
            "rope_type": "default",
            "mrope_section": [2, 1, 1],
            "partial_rotary_factor": 0.5,
        }
        config = getattr(transformers, kind)(
            vision_config={**vision, "model_type": "glm4v_vision"},
            text_config={
                **TINY_TEXT,
                "model_type": "glm4v_text",
                "rope_parameters": rope,
            },
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
        lay_out=lay_out_deltas,
    )


PLUGIN: Family = Declared(
    "glm4v",
    {"4.1": _variant("glm4v", "Glm4v"), "4.6": _variant("glm46v", "Glm46V")},
)
