"""Blocks that several language models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._blocks import Readers

if TYPE_CHECKING:
    from collections.abc import Sequence

# Llama, Mistral, Qwen2, Qwen3: a norm stands before what it feeds and scales by its
# weight, and the gate multiplies what the up projection gives
LLAMA = (
    Readers(
        "self_attn.q_proj self_attn.k_proj self_attn.v_proj", "attn", "input_layernorm"
    ),
    Readers("self_attn.o_proj", "attn", "self_attn.v_proj"),
    Readers("mlp.gate_proj mlp.up_proj", "ff", "post_attention_layernorm"),
    Readers("mlp.down_proj", "ff", "mlp.up_proj"),
)
# Gemma: norms scale by one plus their weight, so no scale divides into the weight
GEMMA = (
    Readers("self_attn.q_proj self_attn.k_proj self_attn.v_proj", "attn"),
    Readers("self_attn.o_proj", "attn", "self_attn.v_proj"),
    Readers("mlp.gate_proj mlp.up_proj", "ff"),
    Readers("mlp.down_proj", "ff", "mlp.up_proj"),
)
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")


def llama_like(config: Any, known: Sequence[str] = LLAMA_LIKE) -> tuple[Readers, ...]:
    """The readers in each block of a model's language part.

    Raises:
        ModelError: the language part is none of the known ones.
    """
    kind = config.text_config.model_type
    if kind not in known:
        raise ModelError(
            f"the language part of this {config.model_type!r} model is a {kind!r}; "
            f"known are {', '.join(known)}"
        )
    return LLAMA
