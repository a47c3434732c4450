"""One backward pass, stage by stage: for every family, what one whole graph gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.plugins import load
from allocator.core.weights import key_of, slice_of
from quant.gradients import passed
from tests.states import TITLES, VARIANTS, made

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Model, State


def sent(after: State) -> tuple[Tensor, Tensor]:
    """The last logits of each prompt, and a gradient that differs everywhere.

    It is 0 at padding, which is not looked at.
    """
    mask = after.get("decoder_attention_mask", after["attention_mask"])
    out = after["logits"][:, -1]
    gradient = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    return out, gradient.to(out) * mask[:, -1:]


def in_one_graph(model: Model, state: State, names: set[str]) -> dict[str, Tensor]:
    """Gradients of what linears gave, summed over all positions; experts' of weights.

    All in one go; a stack of experts has one gradient.
    """
    given: dict[str, Tensor] = {}
    own = {n for n in names if slice_of(model.module, n) is None}
    stacks = {key_of(model.module, n) for n in names - own}

    def note(name: str) -> Any:
        def hook(_: Any, __: Any, out: Tensor) -> None:
            given[name] = out if out.requires_grad else out.requires_grad_()

        return hook

    hooks = [
        model.module.get_submodule(name).register_forward_hook(note(name))
        for name in own
    ]
    weights = {n: model.module.get_parameter(n).requires_grad_() for n in stacks}
    with torch.enable_grad():
        for stage in model.stages():
            state = stage.run(state)
        out, gradient = sent(state)
    for hook in hooks:
        hook.remove()
    outputs = {**given, **weights}
    found = torch.autograd.grad(
        out, list(outputs.values()), gradient, allow_unused=True
    )
    wanted: dict[str, Tensor] = {}
    for (name, each), gradient in zip(outputs.items(), found, strict=True):
        whole = torch.zeros_like(each) if gradient is None else gradient
        wanted[name] = whole if name in stacks else whole.flatten(0, -2).sum(0)
    return wanted


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=TITLES)
def test_stage_by_stage_gives_the_gradients_of_one_graph(
    family: str, variant: str, tmp_path: Path
) -> None:
    plugin = load("allocator.families", family)
    state = made(plugin, tmp_path, variant)
    model = plugin.load(tmp_path, "cpu")
    spec = plugin.spec(tmp_path)
    names = {linear.name for linear in spec.linears}
    found = {each.name: each for each in passed(model, state, names, sent)}
    assert set(found) == names
    wanted = in_one_graph(model, dict(state), names)
    for name, each in found.items():
        part = slice_of(model.module, name)
        if part is None:
            got, own = each.gradient.sum(0), wanted[name]
        else:
            got, own = each.gradient.T @ each.read, wanted[part.stack][part.number]
            # a stack may be stored the other way round
            got = got if got.shape == own.shape else got.T
        torch.testing.assert_close(got, own, rtol=1e-3, atol=1e-4)
