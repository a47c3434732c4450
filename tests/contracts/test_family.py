"""Every family, found by itself, keeps the rules a family has to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from allocator.core.plugins import available, load
from allocator.core.spec import COMPONENTS
from tests.states import logits_of, state_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

FAMILIES = available("allocator.families")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return load("allocator.families", request.param)


@pytest.fixture
def folder(family: Family, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    family.tiny(tmp_path)
    return tmp_path


@pytest.fixture
def model(family: Family, folder: Path) -> Model:
    return family.load(folder, "cpu")


def test_every_linear_is_in_one_group_or_left_out_with_a_reason(
    family: Family, folder: Path, model: Model
) -> None:
    spec = family.spec(folder)
    linears = {n for n, m in model.module.named_modules() if isinstance(m, nn.Linear)}
    grouped = {linear.name for linear in spec.linears}
    left = {left.name for left in spec.left_out}
    assert grouped | left == linears
    assert not grouped & left
    assert all(left.reason for left in spec.left_out)
    assert {group.component for group in spec.groups} == set(COMPONENTS)


def test_the_spec_counts_what_the_checkpoint_holds(
    family: Family, folder: Path, model: Model
) -> None:
    spec = family.spec(folder)
    assert spec.parameters == sum(p.numel() for p in model.module.parameters())
    for linear in spec.linears:
        weight = model.module.get_submodule(linear.name).weight
        assert weight.shape == (linear.out_features, linear.in_features)


def test_the_stages_together_are_the_forward_pass(model: Model) -> None:
    with torch.inference_mode():
        wanted = model.module(**state_of(model.module)).logits
    seen = state_of(model.module)["attention_mask"].bool()
    torch.testing.assert_close(logits_of(model)[seen], wanted[seen])


def test_the_stages_name_every_grouped_linear_once(
    family: Family, folder: Path, model: Model
) -> None:
    named = [n for stage in model.stages() for s in stage.siblings for n in s.names]
    assert sorted(named) == sorted(
        linear.name for linear in family.spec(folder).linears
    )


def test_siblings_read_one_input_and_run_in_the_stage_that_names_them(
    model: Model,
) -> None:
    state = state_of(model.module)
    for stage in model.stages():
        inputs: dict[str, torch.Tensor] = {}
        names = [name for group in stage.siblings for name in group.names]
        hooks = [
            model.module.get_submodule(name).register_forward_pre_hook(
                lambda _, args, name=name, inputs=inputs: inputs.__setitem__(
                    name, args[0]
                )
            )
            for name in names
        ]
        with torch.inference_mode():
            state = stage.run(state)
        for hook in hooks:
            hook.remove()
        for group in stage.siblings:
            first = inputs[group.names[0]]
            assert all(torch.equal(inputs[name], first) for name in group.names)


def test_a_scale_folds_into_its_predecessor_without_changing_the_output(
    model: Model,
) -> None:
    before = logits_of(model)
    folds = [s for stage in model.stages() for s in stage.siblings if s.fold]
    assert folds
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for group in folds:
            source = model.module.get_submodule(group.fold)
            width = model.module.get_submodule(group.names[0]).in_features
            scale = 0.5 + torch.rand(width, generator=generator)
            for parameter in source.parameters(recurse=False):
                # the rows of a linear, the entries of a bias or of a norm's weight
                shape = (-1, *[1] * (parameter.dim() - 1))
                parameter.div_(scale.view(shape))
            for name in group.names:
                model.module.get_submodule(name).weight.mul_(scale)
    torch.testing.assert_close(logits_of(model), before, atol=1e-4, rtol=1e-4)


def test_the_output_is_bit_identical_when_weights_come_back(
    family: Family, folder: Path, model: Model
) -> None:
    before = logits_of(model)
    for group in family.spec(folder).groups:
        weights = [model.module.get_submodule(x.name).weight for x in group.linears]
        kept = [weight.clone() for weight in weights]
        for weight in weights:
            weight.zero_()
        assert not torch.equal(logits_of(model), before), group.key
        for weight, old in zip(weights, kept, strict=True):
            weight.copy_(old)
    assert torch.equal(logits_of(model), before)
