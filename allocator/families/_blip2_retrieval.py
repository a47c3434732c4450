"""BLIP-2 for retrieval: the Q-Former reads a text beside its queries, or alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.ports import Stage
from allocator.families._blip2_image import (
    BOTH,
    TEXT,
    TEXT_PLACE,
    lay_qformer,
    lay_vision,
)
from allocator.families._blip2_image import PLACES as IMAGE_PLACES
from allocator.families._places import Place, Rest
from allocator.families._tiny import IMAGE

if TYPE_CHECKING:
    from allocator.core.ports import State

RESTS = (
    Rest(
        r"(vision|text)_projection",
        "projection of the contrastive head, outside the published groups",
    ),
    Rest(r"itm_head", "matching head, two numbers for each query"),
)


def places(module: Any) -> tuple[Place, ...]:
    """Where the linears of a BLIP-2 for retrieval belong."""
    del module
    return (*IMAGE_PLACES, TEXT_PLACE)


def tiny_texts() -> State:
    """Two texts behind the tokens of an image, the second padded on the right."""
    import torch

    image = [IMAGE] * 4
    return {
        "input_ids": torch.tensor([[*image, 1, 7, 8, 9], [*image, 1, 7, 9, 0]]),
        "attention_mask": torch.tensor([[1] * 8, [*[1] * 7, 0]]),
    }


def lay_stages(module: Any) -> tuple[Stage, ...]:
    """Cut the matching pass into stages, in execution order.

    Its outcome `logits` is [batch, 1, 2]: no match, match.
    """
    qformer, queries = module.qformer, module.query_tokens.shape[1]

    def start(state: State) -> State:
        from transformers.masking_utils import create_bidirectional_mask

        ids, attended = behind_image(module, state)
        tokens = module.query_tokens.expand(len(ids), -1, -1)
        read = module.embeddings(input_ids=ids, query_embeds=tokens)
        read = qformer.layernorm(read.to(qformer.layernorm.weight.dtype))
        both = attended.new_ones(len(ids), queries + ids.shape[1])
        both[:, queries:] = attended
        mask = create_bidirectional_mask(
            config=qformer.config, inputs_embeds=read, attention_mask=both
        )
        gone = ("features", "input_ids", "pixel_values")
        kept = {k: v for k, v in state.items() if k not in gone}
        found = {"read": read, "seen": state["features"], "attend": mask}
        return {**kept, **found, BOTH: both, TEXT: attended}

    def finish(state: State) -> State:
        gone = ("read", "seen", "attend", BOTH, TEXT)
        kept = {k: v for k, v in state.items() if k not in gone}
        read = state["read"][:, :queries].to(module.itm_head.weight.dtype)
        return {**kept, "logits": module.itm_head(read).mean(1, keepdim=True)}

    words = ("query_tokens", "embeddings", "qformer.layernorm")
    return (
        *lay_vision(module, "features"),
        Stage("connector.embed", "connector", start, words),
        *lay_qformer(module, text=True),
        Stage("connector.match", "connector", finish, ("itm_head",)),
    )


def behind_image(module: Any, state: State) -> tuple[Any, Any]:
    """Tokens and mask of the texts alone; newer checkpoints want image tokens first."""
    ids, attended = state["input_ids"], state["attention_mask"]
    if module.config.image_token_index is None:
        return ids, attended
    queries = module.query_tokens.shape[1]
    return ids[:, queries:], attended[:, queries:]
