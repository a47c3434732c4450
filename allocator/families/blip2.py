"""BLIP-2 with an OPT language model: ViT, Q-Former, OPT.

Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders
and Large Language Models", arXiv 2301.12597.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.core.ports import Stage
from allocator.families._checkpoint import (
    Pipeline,
    build_on_meta,
    embed,
    read_checkpoint,
    read_config,
    read_prompts,
)
from allocator.families._places import Place, Rest, place_linears, siblings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.ports import Family, Model, State
    from allocator.core.spec import Granularity, ModelSpec

# prompts of the authors' zero-shot evaluation
PROMPTS = {"vqa": "Question: {} Answer:", "caption": "a photo of"}
TOWER = r"vision_model\.encoder\.layers\.(?P<block>\d+)"
QFORMER = r"qformer\.encoder\.layer\.(?P<block>\d+)"
LANGUAGE = r"language_model\.model\.decoder\.layers\.(?P<block>\d+)"
PLACES = (
    Place(TOWER + r"\.self_attn\.(qkv|projection)", "vision", "attn"),
    Place(TOWER + r"\.mlp\.fc[12]", "vision", "ff"),
    Place(
        QFORMER + r"\.(cross)?attention\.(attention\.(query|key|value)|output\.dense)",
        "connector",
        "attn",
    ),
    Place(QFORMER + r"\.(intermediate|output)_query\.dense", "connector", "ff"),
    Place(LANGUAGE + r"\.self_attn\.(q|k|v|out)_proj", "language", "attn"),
    Place(LANGUAGE + r"\.fc[12]", "language", "ff"),
)
RESTS = (
    Rest(
        r"language_projection",
        "one matrix between Q-Former and language model, outside the published groups",
    ),
    Rest(r"language_model\.lm_head", "output head, tied to the embedding"),
    Rest(
        r"language_model\.model\.decoder\.project_(in|out)",
        "embedding projection, kept at 16 bit with the embedding",
    ),
)


class Blip2:
    """Finds the parts of `Blip2ForConditionalGeneration`."""

    model_types = ("blip-2",)

    def spec(self, folder: Path, granularity: Granularity = "type") -> ModelSpec:
        """Groups and sizes from the configuration alone."""
        from transformers import Blip2ForConditionalGeneration

        _check_language(folder)
        module = build_on_meta(Blip2ForConditionalGeneration, folder)
        return place_linears("blip2", module, PLACES, RESTS, granularity)

    def load(self, folder: Path, device: str, *, mapped: bool = False) -> Model:
        """Read the checkpoint; raise ModelError if it is damaged."""
        from transformers import Blip2ForConditionalGeneration

        _check_language(folder)
        module = read_checkpoint(
            Blip2ForConditionalGeneration, folder, device, mapped=mapped
        )
        prompts = read_prompts(folder, PROMPTS)
        return Pipeline(
            module, folder, device, prompts, lay_stages, lambda m: m.language_model
        )

    def tiny(self, folder: Path) -> None:
        """Save a random-weight model of two blocks a component for tests."""
        from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

        sizes: dict[str, Any] = {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "initializer_range": 0.05,
        }
        text = OPTConfig(
            hidden_size=64,
            word_embed_proj_dim=64,
            ffn_dim=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            vocab_size=64,
            max_position_embeddings=64,
        )
        config = Blip2Config(
            vision_config={**sizes, "image_size": 16, "patch_size": 8},
            qformer_config={**sizes, "encoder_hidden_size": 64, "vocab_size": 64},
            text_config=text.to_dict(),
            num_query_tokens=4,
            image_token_index=4,
        )
        model = Blip2ForConditionalGeneration(config)
        model.query_tokens.data.normal_(std=0.5)
        model.half().save_pretrained(folder)


PLUGIN: Family = Blip2()


def _check_language(folder: Path) -> None:
    config = read_config(folder)
    language = config.get("text_config", {}).get("model_type", "opt")
    if language != "opt":
        raise ModelError(
            f"{folder} has a {language!r} language model; family blip2 reads 'opt'"
        )
    if config.get("image_token_index") is None:
        raise ModelError(
            f"{folder}/config.json has no image_token_index: "
            "take a newer revision of the checkpoint"
        )


def lay_stages(module: Any) -> tuple[Stage, ...]:
    """Cut the forward pass into stages, in execution order."""
    names = {child: name for name, child in module.named_modules()}
    tower = module.vision_model

    def see(state: State) -> State:
        return {**state, "seen": tower.embeddings(state["pixel_values"])}

    def settle(state: State) -> State:
        kept = {k: v for k, v in state.items() if k != "pixel_values"}
        return {**kept, "seen": tower.post_layernorm(state["seen"])}

    return (
        Stage("vision.embed", "vision", see, ("vision_model.embeddings",)),
        *(_vision_block(block, names[block]) for block in tower.encoder.layers),
        Stage("vision.norm", "vision", settle, ("vision_model.post_layernorm",)),
        *_connector(module, names),
        *_language(module, names),
    )


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


def _connector(module: Any, names: dict[Any, str]) -> list[Stage]:
    qformer = module.qformer

    def start(state: State) -> State:
        tokens = module.query_tokens.expand(state["seen"].shape[0], -1, -1)
        tokens = tokens.to(qformer.layernorm.weight.dtype)
        return {**state, "read": qformer.layernorm(tokens)}

    def finish(state: State) -> State:
        kept = {k: v for k, v in state.items() if k not in ("seen", "read")}
        read = state["read"].to(module.language_projection.weight.dtype)
        return {**kept, "features": module.language_projection(read)}

    layers, queries = qformer.encoder.layer, ("query_tokens", "qformer.layernorm")
    return [
        Stage("connector.embed", "connector", start, queries),
        *(_connector_block(layer, names[layer]) for layer in layers),
        Stage("connector.project", "connector", finish, ("language_projection",)),
    ]


def _connector_block(layer: Any, name: str) -> Stage:
    def run(state: State) -> State:
        read = layer(
            state["read"],
            None,
            state["seen"].to(state["read"].dtype),
            query_length=state["read"].shape[1],
        )
        return {**state, "read": read}

    # normalization comes last here and feeds the residual too: nothing folds
    parts = [
        siblings(f"{name}.attention.attention", "query key value"),
        siblings(f"{name}.attention", "output.dense"),
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
    return Stage(name, "connector", run, (name,), tuple(parts))


def _language(module: Any, names: dict[Any, str]) -> list[Stage]:
    decoder = module.language_model.model.decoder

    def start(state: State) -> State:
        from transformers.masking_utils import create_causal_mask

        words, attended = embed(module, state), state["attention_mask"]
        positions = (attended.cumsum(1) * attended - 1).long()
        mask = create_causal_mask(
            config=decoder.config,
            inputs_embeds=words,
            attention_mask=attended,
            past_key_values=None,
        )
        if decoder.project_in is not None:
            words = decoder.project_in(words)
        places = decoder.embed_positions(attended, 0, position_ids=positions)
        return {**state, "hidden": words + places, "mask": mask}

    def finish(state: State) -> State:
        hidden = state["hidden"]
        if decoder.final_layer_norm is not None:
            hidden = decoder.final_layer_norm(hidden)
        if decoder.project_out is not None:
            hidden = decoder.project_out(hidden)
        return {**state, "logits": module.language_model.lm_head(hidden)}

    around = names[decoder]
    words = ("embed_tokens", "embed_positions", "project_in")
    head = ("final_layer_norm", "project_out")
    return [
        Stage("language.embed", "language", start, _within(around, words)),
        *(_language_block(block, names[block]) for block in decoder.layers),
        Stage(
            "language.head",
            "language",
            finish,
            (*_within(around, head), "language_model.lm_head"),
        ),
    ]


def _within(prefix: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names)


def _language_block(block: Any, name: str) -> Stage:
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
    )
