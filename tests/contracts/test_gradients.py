"""One backward pass, stage by stage: for every family, what one whole graph gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.plugins import load
from allocator.core.weights import TRANSPOSED, key_of, slice_of
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
    """Gradients of what linears gave, summed over all positions but padding.

    A convolution sends some there, although what it is of was 0. Of experts it is the
    gradients of their weights, a stack at a time.
    """
    given: dict[str, Tensor] = {}
    own = {n for n in names if slice_of(model.module, n) is None}
    stacks = {key_of(model.module, n) for n in names - own}
    weights = {n: model.module.get_parameter(n).requires_grad_() for n in stacks}

    def note(name: str) -> Any:
        def hook(_: Any, __: Any, out: Tensor) -> None:
            given[name] = out if out.requires_grad else out.requires_grad_()

        return hook

    with torch.enable_grad():
        for stage in model.stages():
            # elsewhere a linear may be called in vain, or give again what it gave
            hooks = [
                model.module.get_submodule(name).register_forward_hook(note(name))
                for name in own.intersection(stage.linears)
            ]
            state = stage.run(state)
            for hook in hooks:
                hook.remove()
        out, gradient = sent(state)
    outputs = [*weights.values(), *given.values()]
    found = torch.autograd.grad(out, outputs, gradient, allow_unused=True)
    summed = {
        name: torch.zeros_like(each) if of is None else of
        for (name, each), of in zip(weights.items(), found, strict=False)
    }
    mask = state["attention_mask"].bool()
    for (name, out), of in zip(given.items(), found[len(weights) :], strict=True):
        seen = torch.zeros_like(out) if of is None else of
        if seen.shape[:-1] == mask.shape:
            seen = seen[mask]
        summed[name] = seen.flatten(0, -2).sum(0)
    return summed


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
            owner = model.module.get_submodule(part.stack.rpartition(".")[0])
            got = got.T if getattr(owner, TRANSPOSED, False) else got
        torch.testing.assert_close(got, own, rtol=1e-3, atol=1e-4)
