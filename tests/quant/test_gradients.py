from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from allocator.core.weights import slice_of
from allocator.families._any_resolution import prompts
from quant.gradients import passed
from tests.contracts.test_gradients import in_one_graph, sent
from tests.quant.mixtures import (
    BLOCK,
    CHOSEN,
    EXPERTS,
    STACKS,
    mixture,
    unused,
)

if TYPE_CHECKING:
    from quant.gradients import Passed


def through(model: Any) -> dict[str, list[Passed]]:
    """What passes through all linears, by name."""
    found: dict[str, list[Passed]] = {}
    names = {linear.name for linear in model.spec.linears}
    for each in passed(model, prompts(), names, sent):
        found.setdefault(each.name, []).append(each)
    assert found.keys() == names
    return found


def test_gradients_of_experts_are_those_of_their_weights() -> None:
    model: Any = mixture()
    found = through(model)
    experts = {n for n in found if slice_of(model.module, n)}
    assert len(experts) == 2 * len(STACKS) * EXPERTS
    wanted = in_one_graph(model, prompts(), experts)
    for name in experts:
        [each] = found[name]
        stack, _, number = name.rpartition(".")
        got, own = each.gradient.T @ each.read, wanted[stack][int(number)]
        torch.testing.assert_close(got, own, rtol=1e-3, atol=1e-5)
    # real tokens alone
    real = int(prompts()["attention_mask"].sum())
    read = [len(found[f"{BLOCK}.{STACKS[0]}.{n}"][0].read) for n in range(EXPERTS)]
    assert sum(read) == CHOSEN * real


def test_an_expert_that_nothing_is_routed_to_has_passed_nothing() -> None:
    model: Any = unused(mixture(), 1)
    [each] = through(model)[f"{BLOCK}.{STACKS[1]}.1"]
    assert each.read.shape == (0, 32)
    assert each.gradient.shape == (0, 64)


def test_experts_run_as_ever_afterwards() -> None:
    model: Any = mixture()
    through(model)
    experts = model.module.get_submodule(f"{BLOCK}.mlp.experts")
    assert "forward" not in vars(experts)
