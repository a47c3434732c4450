"""What a decoder reads of replies where an encoder reads the prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import State

REPLIED = "decoder_attention_mask"


def decoded(replies: Sequence[Sequence[int]], padding: int, device: Any) -> State:
    """Replies for the decoder, padded on the right."""
    import torch

    longest = max(map(len, replies))
    ids = [[*reply, *[padding] * (longest - len(reply))] for reply in replies]
    mask = [[1] * len(reply) + [0] * (longest - len(reply)) for reply in replies]
    return {
        "decoder_input_ids": torch.tensor(ids, device=device),
        REPLIED: torch.tensor(mask, device=device),
    }
