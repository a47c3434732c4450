"""How far a quantized model is from full precision, by its next token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def kl(full: Tensor, other: Tensor) -> Tensor:
    """KL(full || other) of log-probabilities [..., vocabulary], in nats: [...].

    A rounding error may leave it just below 0: it is cut there. Tokens that full
    precision rules out, by a logit of -inf, count for nothing whatever `other` says.
    """
    share = full.exp()
    gaps = (share * (full - other)).masked_fill(share == 0, 0.0)
    return gaps.sum(-1).clamp(min=0.0)


def known(full: Tensor) -> Tensor:
    """Samples for which full precision gives numbers: [samples] bool.

    Nothing can be held against the others.

    Args:
        full: log-probabilities [samples, positions, vocabulary].
    """
    return ~full.isnan().flatten(1).any(1)
