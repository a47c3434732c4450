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
from allocator.families._experts import ROUTED, TINY_EXPERTS, found, router, shared
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
# its first blocks are as Llama's
MIXED = (*LLAMA, *ROUTED, *shared("shared_experts"))
TEXT = "model.language_model.layers"


def layout(module: Any) -> Layout:
    """Where the parts of a GLM-V are, dense or with experts."""
    is_dense = module.config.text_config.model_type == "glm4v_text"
    return Layout(
        vision=Row("vision", BLOCKS, GATED_TOWER),
        connector=MERGER,
        language=Row(
            "language", TEXT, found(module, TEXT, DENSE if is_dense else MIXED)
        ),
        rests=(router(TEXT),),
    )


def _tiny(name: str, kind: str) -> Callable[[], tuple[Any, State]]:
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
        # a dense block, then one with experts
        experts = {**TINY_EXPERTS, "first_k_dense_replace": 1, "head_dim": 16}
        experts["n_routed_experts"] = experts.pop("num_experts")
        text = {**TINY_TEXT, "rope_parameters": rope}
        config = getattr(transformers, name)(
            vision_config={**vision, "model_type": f"{kind}_vision"},
            text_config={
                **text,
                **(experts if "moe" in kind else {}),
                "model_type": f"{kind}_text",
            },
            **TINY_TOKENS,
        )
        return config, prompts()

    return make


def _variant(kind: str, name: str, text: str = "glm4v") -> Variant:
    return Variant(
        kind,
        f"{name}ForConditionalGeneration",
        layout,
        SHORT_ANSWERS,
        _tiny(f"{name}Config", text),
        lay_out=lay_out_deltas,
    )


PLUGIN: Family = Declared(
    "glm4v",
    {
        "4.1": _variant("glm4v", "Glm4v"),
        "4.5": _variant("glm4v_moe", "Glm4vMoe", "glm4v_moe"),
        "4.6": _variant("glm46v", "Glm46V"),
    },
)
