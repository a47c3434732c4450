"""LLaVA 1.5: CLIP or SigLIP tower, two-layer projector, Llama-like language model.

Liu et al., "Improved Baselines with Visual Instruction Tuning", arXiv 2310.03744.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.ports import Stage
from allocator.families._checkpoint import (
    Pipeline,
    build_on_meta,
    embed,
    read_checkpoint,
    read_prompts,
)
from allocator.families._places import Place, Rest, place_linears, siblings

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model, State
    from allocator.core.spec import Granularity, ModelSpec

# image prompts of the authors' evaluation
PROMPTS = {
    "vqa": (
        "USER: <image>\n{}\n"
        "Answer the question using a single word or phrase. ASSISTANT:"
    ),
    "caption": "USER: <image>\nProvide a one-sentence caption. ASSISTANT:",
}
TOWER = r"model\.vision_tower\.(vision_model\.)?encoder\.layers\.(?P<block>\d+)"
LANGUAGE = r"model\.language_model\.layers\.(?P<block>\d+)"
PLACES = (
    Place(TOWER + r"\.self_attn\.(q|k|v|out)_proj", "vision", "attn"),
    Place(TOWER + r"\.mlp\.fc[12]", "vision", "ff"),
    Place(r"model\.multi_modal_projector\.linear_[12]", "connector"),
    Place(LANGUAGE + r"\.self_attn\.[qkvo]_proj", "language", "attn"),
    Place(LANGUAGE + r"\.mlp\.(gate|up|down)_proj", "language", "ff"),
)
RESTS = (
    Rest(r"lm_head", "output head, kept at 16 bit"),
    Rest(r"model\.vision_tower\..*head\..*", "pooling head, never run"),
)


class Llava:
    """Finds the parts of `LlavaForConditionalGeneration`."""

    model_types = ("llava",)

    def spec(self, folder: Path, granularity: Granularity = "type") -> ModelSpec:
        """Groups and sizes from the configuration alone."""
        from transformers import LlavaForConditionalGeneration

        module = build_on_meta(LlavaForConditionalGeneration, folder)
        return place_linears("llava", module, PLACES, RESTS, granularity)

    def load(self, folder: Path, device: str, *, mapped: bool = False) -> Model:
        """Read the checkpoint; raise ModelError if it is damaged."""
        from transformers import LlavaForConditionalGeneration

        module = read_checkpoint(
            LlavaForConditionalGeneration, folder, device, mapped=mapped
        )
        prompts = read_prompts(folder, PROMPTS)
        return Pipeline(module, folder, device, prompts, lay_stages, lambda m: m)

    def tiny(self, folder: Path) -> None:
        """Save a random-weight model of two blocks a component for tests."""
        from transformers import (
            CLIPVisionConfig,
            LlamaConfig,
            LlavaConfig,
            LlavaForConditionalGeneration,
        )

        sizes: dict[str, Any] = {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        }
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(image_size=16, patch_size=8, **sizes),
            text_config=LlamaConfig(vocab_size=64, **sizes),
            image_token_index=4,
            image_seq_length=4,
            vision_feature_layer=-1,
        )
        LlavaForConditionalGeneration(config).half().save_pretrained(folder)


PLUGIN: Family = Llava()


def _feature_layer(config: Any) -> int:
    """Number of tower blocks behind the features the projector reads."""
    layer, blocks = config.vision_feature_layer, config.vision_config.num_hidden_layers
    if not isinstance(layer, int):
        raise SpecError(
            f"vision_feature_layer {layer} joins several layers; one is supported"
        )
    return layer if layer >= 0 else blocks + 1 + layer


def lay_stages(module: Any) -> tuple[Stage, ...]:
    """Cut the forward pass into stages, in execution order.

    Every block of the tower runs, as in transformers, also one behind the features.
    """
    names = {child: name for name, child in module.named_modules()}
    tower = module.model.vision_tower
    tower = getattr(tower, "vision_model", tower)
    feature_layer = _feature_layer(module.config)
    first = 1 if module.config.vision_feature_select_strategy == "default" else 0

    def see(state: State) -> State:
        patches = tower.embeddings.patch_embedding.weight
        hidden = tower.embeddings(state["pixel_values"].to(patches.dtype))
        if hasattr(tower, "pre_layrnorm"):
            hidden = tower.pre_layrnorm(hidden)
        kept = {"patches": hidden[:, first:]} if feature_layer == 0 else {}
        return {**state, "seen": hidden, **kept}

    seen = tuple(f"{names[tower]}.{part}" for part in ("embeddings", "pre_layrnorm"))
    stages = [Stage("vision.embed", "vision", see, seen)]
    for number, block in enumerate(tower.encoder.layers):
        reads = number + 1 == feature_layer
        stages.append(_vision_block(block, names[block], first if reads else None))
    stages.append(_projector(module.model.multi_modal_projector))
    stages += _language(module, names)
    return tuple(stages)


def _vision_block(block: Any, name: str, first: int | None) -> Stage:
    """One block of the tower; `first` is the first patch kept, if any are."""

    def run(state: State) -> State:
        hidden = block(state["seen"], attention_mask=None)
        kept = {} if first is None else {"patches": hidden[:, first:]}
        return {**state, "seen": hidden, **kept}

    attention = f"{name}.self_attn"
    return Stage(
        name,
        "vision",
        run,
        (name,),
        (
            siblings(
                name,
                "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
                "layer_norm1",
            ),
            siblings(attention, "out_proj", "v_proj"),
            siblings(name, "mlp.fc1", "layer_norm2"),
            siblings(name, "mlp.fc2"),
        ),
    )


def _projector(projector: Any) -> Stage:
    name = "model.multi_modal_projector"

    def run(state: State) -> State:
        kept = {k: v for k, v in state.items() if k not in ("seen", "pixel_values")}
        return {**kept, "features": projector(kept.pop("patches"))}

    return Stage(
        "connector",
        "connector",
        run,
        (name,),
        (siblings(name, "linear_1"), siblings(name, "linear_2")),
    )


def _language(module: Any, names: dict[Any, str]) -> list[Stage]:
    language = module.model.language_model

    def start(state: State) -> State:
        import torch
        from transformers.masking_utils import create_causal_mask

        words = embed(module, state)
        length, device = words.shape[1], words.device
        positions = torch.arange(length, device=device).unsqueeze(0)
        mask = create_causal_mask(
            config=language.config,
            inputs_embeds=words,
            attention_mask=state["attention_mask"],
            past_key_values=None,
            position_ids=positions,
        )
        turns = language.rotary_emb(words, position_ids=positions)
        return {**state, "hidden": words, "mask": mask, "turns": turns}

    def finish(state: State) -> State:
        logits = module.lm_head(language.norm(state["hidden"]))
        return {**state, "logits": logits}

    blocks = [_language_block(block, names[block]) for block in language.layers]
    words = (names[module.get_input_embeddings()], names[language.rotary_emb])
    head = (names[language.norm], names[module.lm_head])
    return [
        Stage("language.embed", "language", start, words),
        *blocks,
        Stage("language.head", "language", finish, head),
    ]


def _language_block(block: Any, name: str) -> Stage:
    def run(state: State) -> State:
        hidden = block(
            state["hidden"],
            attention_mask=state["mask"],
            position_embeddings=state["turns"],
        )
        return {**state, "hidden": hidden}

    attention = block.self_attn
    # with fewer key-value heads one value channel feeds several inputs of o_proj
    alike = attention.v_proj.out_features == attention.o_proj.in_features
    return Stage(
        name,
        "language",
        run,
        (name,),
        (
            siblings(
                name,
                "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
                "input_layernorm",
            ),
            siblings(f"{name}.self_attn", "o_proj", "v_proj" if alike else None),
            siblings(name, "mlp.gate_proj mlp.up_proj", "post_attention_layernorm"),
            siblings(f"{name}.mlp", "down_proj", "up_proj"),
        ),
    )
