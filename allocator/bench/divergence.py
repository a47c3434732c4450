"""How far a quantized model is from full precision, by its next token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def kl(full: Tensor, other: Tensor) -> Tensor:
    """KL(full || other) of log-probabilities [..., vocabulary], in nats: [...].

    A rounding error may leave it just below 0: it is cut there.
    """
    return (full.exp() * (full - other)).sum(-1).clamp(min=0.0)
