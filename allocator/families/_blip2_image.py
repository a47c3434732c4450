"""What all BLIP-2 models have: the ViT, and the blocks of the Q-Former."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.ports import Stage
from allocator.families._places import Place, siblings

if TYPE_CHECKING:
    from allocator.core.ports import State

TOWER = r"vision_model\.encoder\.layers\.(?P<block>\d+)"
QFORMER = r"qformer\.encoder\.layer\.(?P<block>\d+)"
PLACES = (
    Place(TOWER + r"\.self_attn\.(qkv|projection)", "vision", "attn"),
    Place(TOWER + r"\.mlp\.fc[12]", "vision", "ff"),
    Place(
        QFORMER + r"\.(cross)?attention\.(attention\.(query|key|value)|output\.dense)",
        "connector",
        "attn",
    ),
    Place(QFORMER + r"\.(intermediate|output)_query\.dense", "connector", "ff"),
)
# the feed-forward that text goes through, where the Q-Former reads text
TEXT_PLACE = Place(QFORMER + r"\.(intermediate|output)\.dense", "connector", "ff")
# keys of the state: which positions are real, of queries and text, and of text alone
BOTH, TEXT = "both_mask", "text_mask"


def lay_vision(module: Any, outcome: str) -> list[Stage]:
    """The stages of the ViT; the state keeps what they give as `outcome`."""
    names = {child: name for name, child in module.named_modules()}
    tower = module.vision_model

    def see(state: State) -> State:
        return {**state, "seen": tower.embeddings(state["pixel_values"])}

    def settle(state: State) -> State:
        kept = {k: v for k, v in state.items() if k not in ("pixel_values", "seen")}
        return {**kept, outcome: tower.post_layernorm(state["seen"])}

    return [
        Stage("vision.embed", "vision", see, ("vision_model.embeddings",)),
        *(_vision_block(block, names[block]) for block in tower.encoder.layers),
        Stage("vision.norm", "vision", settle, ("vision_model.post_layernorm",)),
    ]


def _vision_block(block: Any, name: str) -> Stage:
    def run(state: State) -> State:
        return {**state, "seen": block(state["seen"])}

    return Stage(
        name,
        "vision",
        run,
        (name,),
        (
            siblings(name, "self_attn.qkv", "layer_norm1"),
            siblings(name, "self_attn.projection"),
            siblings(name, "mlp.fc1", "layer_norm2"),
            siblings(name, "mlp.fc2"),
        ),
    )


def lay_qformer(module: Any, *, text: bool) -> list[Stage]:
    """The blocks of the Q-Former: queries, with text behind them or without.

    They turn `read` into the next `read`, looking at the image in `seen` (of one image
    for all, or of one each). With text, `attend` is the mask of self-attention, and the
    state has `BOTH` and `TEXT`.
    """
    return [
        _qformer_block(module, number, text=text)
        for number in range(len(module.qformer.encoder.layer))
    ]


def _qformer_block(module: Any, number: int, *, text: bool) -> Stage:
    layer, queries = module.qformer.encoder.layer[number], module.query_tokens.shape[1]
    name = f"qformer.encoder.layer.{number}"

    def run(state: State) -> State:
        read = layer(
            state["read"],
            state["attend"] if text else None,
            state["seen"].to(state["read"].dtype),
            query_length=queries,
        )
        return {**state, "read": read}

    # normalization comes last here and feeds the residual too: nothing folds
    both = BOTH if text else None
    parts = [
        siblings(f"{name}.attention.attention", "query key value", mask=both),
        siblings(f"{name}.attention", "output.dense", mask=both),
    ]
    if layer.has_cross_attention:
        parts += [
            siblings(f"{name}.crossattention.attention", "query"),
            siblings(f"{name}.crossattention.attention", "key value"),
            siblings(f"{name}.crossattention", "output.dense"),
        ]
    parts += [
        siblings(name, "intermediate_query.dense"),
        siblings(name, "output_query.dense"),
    ]
    if text:
        parts += [
            siblings(name, "intermediate.dense", mask=TEXT),
            siblings(name, "output.dense", mask=TEXT),
        ]
    return Stage(name, "connector", run, (name,), tuple(parts))
