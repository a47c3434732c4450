"""A tiny mixture of experts: Qwen3-VL's, with two blocks of four experts each."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from allocator.families import qwen_vl
from allocator.families._any_resolution import (
    TINY_TEXT,
    TINY_TOKENS,
    TINY_VISION,
    prompts,
)
from allocator.families._blocks import Cut, Layout, Readers, Row
from allocator.families._places import Rest, place_linears
from quant.build import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allocator.core.ports import Stage, State
    from allocator.core.spec import ModelSpec

EXPERTS, CHOSEN = 4, 2
BLOCK = "model.language_model.layers.0"
STACKS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
READERS = (
    Readers(
        "self_attn.q_proj self_attn.k_proj self_attn.v_proj", "attn", "input_layernorm"
    ),
    Readers("self_attn.o_proj", "attn", "self_attn.v_proj"),
    *(Readers(stack, "ff", experts=True) for stack in STACKS),
)


@dataclass
class Mixture:
    """As much of a model as is needed to quantize it."""

    module: Any
    processor: Any = None

    @property
    def layout(self) -> Layout:
        dense = qwen_vl.layout_3(self.module)
        return Layout(
            dense.vision,
            dense.connector,
            Row("language", dense.language.path, READERS),
            (Rest(r".*\.mlp\.gate", "router"), Rest("lm_head", "output head")),
            dense.reads,
            dense.between,
        )

    @property
    def spec(self) -> ModelSpec:
        layout = self.layout
        return place_linears(
            "mixture", self.module, layout.places, layout.rests, "type"
        )

    def stages(self) -> tuple[Stage, ...]:
        return Cut(self.module, self.layout).stages()

    def apart(self) -> Mixture:
        """A model of one's own: a pass changes a model while it runs."""
        return Mixture(deepcopy(self.module))


def mixture(**text: Any) -> Mixture:
    """A model with random weights; further values of its text configuration."""
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    vision = {
        **TINY_VISION,
        "intermediate_size": 128,
        "out_hidden_size": 64,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    own = {
        **TINY_TEXT,
        "head_dim": 16,
        "num_experts": EXPERTS,
        "num_experts_per_tok": CHOSEN,
        "moe_intermediate_size": 32,
        "decoder_sparse_step": 1,
        **text,
    }
    config = Qwen3VLMoeConfig(vision_config=vision, text_config=own, **TINY_TOKENS)
    torch.manual_seed(0)
    module = Qwen3VLMoeForConditionalGeneration(config).eval().half().float()
    return Mixture(module.requires_grad_(False))


def unused(model: Mixture, number: int) -> Mixture:
    """The same, where the first block's router never chooses one expert."""
    # others leave what stands for no expert to whoever runs several devices
    model.module.set_experts_implementation("eager")
    gate = model.module.get_submodule(f"{BLOCK}.mlp.gate")

    def choose(_: Any, __: Any, given: Any) -> Any:
        logits, shares, experts = given
        return logits, shares, torch.where(experts == number, EXPERTS, experts)

    gate.register_forward_hook(choose)
    return model


def sourced(model: Mixture, *batches: State) -> Source:
    """A model and its calibration inputs; the two prompts unless there are others."""
    own: Any = model
    return Source(
        lambda: own, lambda _: [dict(each) for each in batches or [prompts()]]
    )


@torch.no_grad()
def before(model: Mixture, name: str, state: State) -> tuple[Stage, State]:
    """A stage by its name, and the state in front of it."""
    for stage in model.stages():
        if stage.name == name:
            return stage, state
        state = stage.run(state)
    raise LookupError(name)


@torch.no_grad()
def by_hand(model: Mixture, stage: Stage, state: State) -> dict[str, torch.Tensor]:
    """What each expert of the first block reads, token after token, by full name."""
    mlp = model.module.get_submodule(f"{BLOCK}.mlp")
    given: list[torch.Tensor] = []
    hook = mlp.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    stage.run(state)
    hook.remove()
    real = given[0][state["attention_mask"].bool()]
    scores = (real @ mlp.gate.weight.T).softmax(-1)
    found: dict[str, list[torch.Tensor]] = {}
    for token, own in zip(real, scores, strict=True):
        for number in own.topk(CHOSEN).indices.tolist():
            up, down = (f"{BLOCK}.{stack}.{number}" for stack in STACKS)
            found.setdefault(up, []).append(token)
            gate, value = (mlp.experts.gate_up_proj[number] @ token).chunk(2)
            inner = torch.nn.functional.silu(gate) * value
            found.setdefault(down, []).append(inner)
    return {name: torch.stack(rows) for name, rows in found.items()}


def leaves(module: Any) -> Iterator[tuple[str, int, torch.Tensor]]:
    """Names, places in memory and copies of all parameters."""
    for name, each in module.named_parameters():
        yield name, each.data_ptr(), each.clone()


def noting(found: dict[str, list[torch.Tensor]], name: str) -> Callable[..., Any]:
    return lambda x: found.setdefault(name, []).append(x.clone())
