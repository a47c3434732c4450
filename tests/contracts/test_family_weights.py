"""Every family reads what a file holds: all of it, in its own types, and no more."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.core.errors import ModelError
from allocator.core.plugins import load
from allocator.core.weights import key_of, weight_of
from tests.states import TITLES, VARIANTS, made, stored_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.ports import Family

Tensors = dict[str, torch.Tensor]
WEIGHTS = "model.safetensors"


class Saved:
    """A tiny model's folder, copied for each test."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.family, self.folder = family, folder

    def edit(self, change: Callable[[Tensors], object]) -> Tensors:
        tensors = load_file(self.folder / WEIGHTS)
        change(tensors)
        save_file(tensors, self.folder / WEIGHTS, {"format": "pt"})
        return tensors

    def refused(self, said: str) -> None:
        for read in (self.family.spec, lambda f: self.family.load(f, "cpu")):
            with pytest.raises(ModelError, match=said):
                read(self.folder)


@pytest.fixture(params=VARIANTS, ids=TITLES, scope="module")
def made_once(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Saved:
    name, variant = request.param
    family = load("allocator.families", name)
    folder = tmp_path_factory.mktemp(name)
    made(family, folder, variant)
    return Saved(family, folder)


@pytest.fixture
def saved(made_once: Saved, tmp_path: Path) -> Saved:
    shutil.copytree(made_once.folder, tmp_path / "model")
    return Saved(made_once.family, tmp_path / "model")


def test_a_head_of_its_own_is_counted_and_read_whatever_is_configured(
    saved: Saved,
) -> None:
    module = saved.family.load(saved.folder, "cpu").module.half()
    head, words = module.get_output_embeddings(), module.get_input_embeddings()
    if head is None or words is None:
        pytest.skip("it ranks, and has no output head")
    said = (saved.folder / "config.json").read_text()
    # embeddings may have rows for tokens that nobody says
    own = words.weight.detach()[: len(head.weight)] + 0.25
    head.weight = torch.nn.Parameter(own)
    module.config.tie_word_embeddings = False
    module.save_pretrained(saved.folder)
    # tied or not, or nothing: as it was
    (saved.folder / "config.json").write_text(said)
    stored = load_file(saved.folder / WEIGHTS)
    spec = saved.family.spec(saved.folder)
    assert not spec.tied
    assert spec.parameters == sum(tensor.numel() for tensor in stored.values())
    found = saved.family.load(saved.folder, "cpu").module
    assert torch.equal(found.get_output_embeddings().weight, own.float())
    numbers = stored_by(found).values()
    assert sum(value.numel() for value in numbers) == spec.parameters


def test_a_tensor_that_nothing_reads_is_named(saved: Saved) -> None:
    name = linear_of(saved)
    saved.edit(lambda t: t.update({f"{name}_scale": torch.ones(1)}))
    saved.refused(r"stores tensor \S+, which .*quantized already")


def linear_of(saved: Saved) -> str:
    """The name, in the file, of what holds a weight matrix that is in a group."""
    module, last = saved.family.load(saved.folder, "cpu").module, last_of(saved)
    # an expert's lies apart, or with those of the others
    own = [weight_of(module, last), module.get_parameter(key_of(module, last))]
    # a file has other names for it
    stored = load_file(saved.folder / WEIGHTS).items()
    return next(n for n, t in stored if any(torch.equal(t, o.half()) for o in own))


def last_of(saved: Saved) -> str:
    """The full name of the same linear in the model."""
    return saved.family.spec(saved.folder).linears[-1].name


def test_a_tensor_that_is_not_there_is_named(saved: Saved) -> None:
    name, linear = linear_of(saved), last_of(saved)
    saved.edit(lambda t: t.pop(name))
    # a stack of experts is stored in one piece
    saved.refused(rf"lacks 1 weights, \S+({linear[-6:]}|{name[-6:]})")


def test_one_weight_in_a_wider_type_keeps_its_values(saved: Saved) -> None:
    name = linear_of(saved)
    wide = saved.edit(lambda t: t.update({name: t[name].float() * 1e7}))[name]
    assert not torch.isfinite(wide.half()).all()
    linear = last_of(saved)
    for mapped in (True, False):
        module = saved.family.load(saved.folder, "cpu", mapped=mapped).module
        own = wide if wide.dim() == 2 else wide[int(linear.rpartition(".")[2])]
        weight = weight_of(module, linear)
        # experts may be stored turned round
        assert torch.equal(weight, own if own.shape == weight.shape else own.T)


def test_weights_in_several_files_are_those_of_one(saved: Saved) -> None:
    spec, tensors = saved.family.spec(saved.folder), load_file(saved.folder / WEIGHTS)
    listed = {name: f"{at % 2}.safetensors" for at, name in enumerate(tensors)}
    for file in set(listed.values()):
        own = {name: tensors[name] for name, at in listed.items() if at == file}
        save_file(own, saved.folder / file)
    (saved.folder / WEIGHTS).unlink()
    index = json.dumps({"weight_map": listed})
    (saved.folder / f"{WEIGHTS}.index.json").write_text(index)
    assert saved.family.spec(saved.folder) == spec
