"""Inputs for the random-weight models of the families, and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from quant.bank import Bank
from quant.build import Source, build_bank

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model, State
    from allocator.core.spec import ModelSpec
    from quant.bank import Recipe


def state_of(module: Any) -> dict[str, Any]:
    """Two prompts, the second padded on the left, around one image each."""
    generator = torch.Generator().manual_seed(1)
    side = module.config.vision_config.image_size
    image = module.config.image_token_id
    texts = [[*([image] * 4), 1, 7, 8, 9], [*([image] * 4), 0, 1, 7, 9]]
    attended = [[1] * 8, [1, 1, 1, 1, 0, 1, 1, 1]]
    state = {
        "pixel_values": torch.randn(2, 3, side, side, generator=generator),
        "input_ids": torch.tensor(texts),
        "attention_mask": torch.tensor(attended),
    }
    return {name: tensor.to(module.device) for name, tensor in state.items()}


def logits_of(model: Model) -> torch.Tensor:
    state = state_of(model.module)
    with torch.inference_mode():
        for stage in model.stages():
            state = stage.run(state)
    return state["logits"]


def bank_of(
    root: Path,
    recipe: Recipe,
    model: Model,
    spec: ModelSpec,
    state: State | None = None,
) -> Bank:
    """A bank of a model that is calibrated on one batch."""
    device = str(model.module.device)
    batch = state or state_of(model.module)
    source = Source(lambda: model, lambda _: [dict(batch)], device)
    build_bank(root, recipe, spec.linears, source)
    return Bank(root / recipe.digest, recipe, spec)
