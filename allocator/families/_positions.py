"""Positions whose logits somebody reads: the output head runs on these alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.ports import POSITIONS

if TYPE_CHECKING:
    from allocator.core.ports import State


def read_positions(state: State) -> Any:
    """The `hidden` states that the head is to read: [batch, positions, width].

    Those that are named under `POSITIONS`; without it all: [batch, tokens, width].
    """
    import torch

    hidden, wanted = state["hidden"], state.get(POSITIONS)
    if wanted is None:
        return hidden
    rows = torch.arange(len(hidden), device=hidden.device)[:, None]
    return hidden[rows, wanted.to(hidden.device)]
