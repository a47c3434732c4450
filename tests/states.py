"""Inputs for the random-weight models of the families, and what they answer."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.plugins import available, load
from allocator.families import AUTO
from quant.bank import Bank
from quant.build import Source, build_bank, weight_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.ports import Family, Model, State
    from allocator.core.spec import ModelSpec
    from quant.bank import Recipe


# of the variants of what is placed by its structure, those that all tests try
MOST = 2
EVERY = [
    (name, variant)
    for name in available("allocator.families")
    for variant in load("allocator.families", name).variants
]
VARIANTS = [
    (name, variant)
    for name, variant in EVERY
    if name != AUTO or variant in load("allocator.families", AUTO).variants[:MOST]
]
TITLES = ["-".join(pair) for pair in VARIANTS]


def made(family: Family, folder: Path, variant: str | None = None) -> State:
    """Save one of a family's tiny models; two prompts for it."""
    torch.manual_seed(0)
    return family.tiny(folder, variant or family.variants[0])


def copied(model: Any) -> Any:
    """A model of one's own, in a fraction of the time that loading it again takes."""
    return replace(model, module=deepcopy(model.module), _kept={})


def prefixed(model: Model, state: State) -> State:
    """A state that has run as far as is kept between trials."""
    with torch.inference_mode():
        for stage in model.stages():
            if stage.component in model.prefix:
                state = stage.run(state)
    return state


def logits_of(model: Model, state: State) -> torch.Tensor:
    with torch.inference_mode():
        for stage in model.stages():
            state = stage.run(state)
    return state["logits"]


def bank_of(
    root: Path,
    recipe: Recipe,
    model: Model,
    spec: ModelSpec,
    state: State,
) -> Bank:
    """A bank of a model that is calibrated on one batch."""
    device = str(model.module.device)
    source = Source(lambda: model, lambda _: [dict(state)], device)
    build_bank(root, recipe, spec.linears, source)
    return opened(root / recipe.digest, recipe, (model, spec))


def opened(
    folder: Path,
    recipe: Recipe,
    loaded: tuple[Any, ModelSpec],
    rebuild: Callable[[], object] | None = None,
) -> Bank:
    """A bank that makes of a loaded model what it does not store."""
    model, spec = loaded
    weights = {
        linear.name: weight_of(model.module, linear.name, "cpu").clone()
        for linear in spec.linears
    }
    return Bank(folder, recipe, spec, rebuild, weights.__getitem__)


def stored_by(module: Any) -> dict[str, torch.Tensor]:
    """Parameters and buffers that a module's checkpoint holds, tied ones once."""
    kept = module.state_dict()
    buffers = {n: each for n, each in module.named_buffers() if n in kept}
    return {**dict(module.named_parameters()), **buffers}
