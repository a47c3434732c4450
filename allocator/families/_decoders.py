"""Blocks that several language models share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._blocks import Readers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def gemma_like(config: Any) -> tuple[Readers, ...]:
    """The readers in each block of a Gemma, whose norms scale by 1 plus their weight.

    From Gemma 2 on, norms stand behind attention and feed-forward too: those feed the
    residual.
    """
    kind = config.text_config.model_type
    before = "post_attention" if kind == "gemma" else "pre_feedforward"
    attention, output, given, down = LLAMA
    return (
        replace(attention, added=1.0),
        output,
        replace(given, fold=f"{before}_layernorm", added=1.0),
        down,
    )


def capped(cap: float | None) -> Callable[[Any], Any] | None:
    """What turns the head's output into logits that stay below a bound, if any."""
    return None if cap is None else lambda logits: (logits / cap).tanh() * cap
