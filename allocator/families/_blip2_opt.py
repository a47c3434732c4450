"""The OPT language model of a BLIP-2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.ports import Siblings, Stage
from allocator.families._blip2_image import PLACES as IMAGE_PLACES
from allocator.families._blip2_reply import PROJECTION, embed, lay_image
from allocator.families._places import Place, Rest, embeddings_read, siblings
from allocator.families._positions import read_positions
from allocator.families._tiny import VOCABULARY

if TYPE_CHECKING:
    from allocator.core.ports import State

DECODER = "language_model.model.decoder"
BLOCK = r"language_model\.model\.decoder\.layers\.(?P<block>\d+)"
PLACES = (
    *IMAGE_PLACES,
    Place(BLOCK + r"\.self_attn\.(q|k|v|out)_proj", "language", "attn"),
    Place(BLOCK + r"\.fc[12]", "language", "ff"),
)
RESTS = (
    PROJECTION,
    Rest(r"language_model\.lm_head", "output head, tied to the embedding"),
    Rest(
        r"language_model\.model\.decoder\.project_(in|out)",
        "embedding projection, kept at 16 bit with the embedding",
    ),
)


def places(module: Any) -> tuple[Place, ...]:
    """Where the linears of a BLIP-2 with OPT belong."""
    del module
    return PLACES


def tiny_language() -> dict[str, Any]:
    """Configuration of a small OPT."""
    from transformers import OPTConfig

    config: dict[str, Any] = OPTConfig(
        hidden_size=64,
        word_embed_proj_dim=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
    ).to_dict()
    return config


def lay_stages(module: Any) -> tuple[Stage, ...]:
    """Cut the forward pass into stages, in execution order."""
    decoder = module.language_model.model.decoder

    def start(state: State) -> State:
        from transformers.masking_utils import create_causal_mask

        words, attended = embed(module, state), state["attention_mask"]
        positions = (attended.cumsum(1) * attended - 1).long()
        # by position: what comes last, the cache, goes by two names
        mask = create_causal_mask(decoder.config, words, attended, None)
        if decoder.project_in is not None:
            words = decoder.project_in(words)
        places = decoder.embed_positions(attended, 0, position_ids=positions)
        kept = {k: v for k, v in state.items() if k != "features"}
        return {**kept, "hidden": words + places, "mask": mask}

    def finish(state: State) -> State:
        hidden = read_positions(state)
        if decoder.final_layer_norm is not None:
            hidden = decoder.final_layer_norm(hidden)
        if decoder.project_out is not None:
            hidden = decoder.project_out(hidden)
        return {**state, "logits": module.language_model.lm_head(hidden)}

    words = _within("embed_tokens embed_positions project_in")
    return (
        *lay_image(module),
        Stage("language.embed", "language", start, words, embeddings_read(module)),
        *(_block(b, f"{DECODER}.layers.{n}") for n, b in enumerate(decoder.layers)),
        Stage(
            "language.head",
            "language",
            finish,
            (*_within("final_layer_norm project_out"), "language_model.lm_head"),
            (Siblings(("language_model.lm_head",)),),
            "attention_mask",
        ),
    )


def _within(names: str) -> tuple[str, ...]:
    return tuple(f"{DECODER}.{name}" for name in names.split())


def _block(block: Any, name: str) -> Stage:
    def run(state: State) -> State:
        hidden = block(state["hidden"], attention_mask=state["mask"])
        return {**state, "hidden": hidden}

    # a norm folds only where it stands before its readers; a scale passes a ReLU
    before = block.do_layer_norm_before
    relu = block.activation_fn.__class__.__name__ == "ReLU"
    return Stage(
        name,
        "language",
        run,
        (name,),
        (
            siblings(
                name,
                "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
                "self_attn_layer_norm" if before else None,
            ),
            siblings(f"{name}.self_attn", "out_proj", "v_proj"),
            siblings(name, "fc1", "final_layer_norm" if before else None),
            siblings(name, "fc2", "fc1" if relu else None),
        ),
        "attention_mask",
    )
