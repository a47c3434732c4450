"""Experts as published files have them: one tensor, turned round, or each apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.core.errors import ModelError
from allocator.core.plugins import load
from tests.families.checkpoints import change
from tests.states import made, stored_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from allocator.core.ports import Family

Tensors = dict[str, torch.Tensor]
WEIGHTS = "model.safetensors"
MIXTURES = [("qwen_vl", "3-moe"), ("qwen3_5", "moe"), ("glm4v", "4.5")]
UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"


def whole(tensors: Tensors) -> Tensors:
    """Experts of a block in one tensor, as a module has them."""
    found = {k: v for k, v in tensors.items() if ".experts." not in k or v.dim() == 3}
    apart = sorted(k for k in tensors if k not in found)
    for start in dict.fromkeys(name.partition(".mlp.")[0] for name in apart):

        def stacked(part: str, start: str = start) -> Tensor:
            names = [n for n in apart if n.startswith(f"{start}.") and part in n]
            return torch.stack([tensors[n] for n in names])

        pair = [stacked(f".{part}_proj.") for part in ("gate", "up")]
        found[f"{start}.{UP}"] = torch.cat(pair, 1)
        found[f"{start}.{DOWN}"] = stacked(".down_proj.")
    return found


def apart(tensors: Tensors) -> Tensors:
    """Each expert's matrices on their own, as most publish them."""
    found: Tensors = {}
    for name, tensor in whole(tensors).items():
        front = name.removesuffix("gate_up_proj").removesuffix("down_proj")
        if front == name or tensor.dim() != 3:
            found[name] = tensor
            continue
        for number, own in enumerate(tensor):
            pair = [("down", own)]
            if name.endswith(UP):
                pair = list(zip(("gate", "up"), own.chunk(2), strict=True))
            for part, matrix in pair:
                found[f"{front}{number}.{part}_proj.weight"] = matrix.contiguous()
    return found


def turned(tensors: Tensors) -> Tensors:
    """Stacks with rows and columns exchanged, as Qwen3-VL's are published."""
    return {
        k: v.mT.contiguous() if k.endswith((UP, DOWN)) and v.dim() == 3 else v
        for k, v in whole(tensors).items()
    }


WAYS = [
    ("qwen_vl", "3-moe", whole),
    ("qwen_vl", "3-moe", turned),
    ("qwen3_5", "moe", whole),
    ("qwen3_5", "moe", apart),
    ("glm4v", "4.5", whole),
    ("glm4v", "4.5", apart),
]


def saved(name: str, variant: str, way: Callable[[Tensors], Tensors], to: Path) -> Any:
    """A tiny model's family; its weights are stored in some way."""
    family: Family = load("allocator.families", name)
    made(family, to, variant)
    save_file(way(load_file(to / WEIGHTS)), to / WEIGHTS, {"format": "pt"})
    return family


def files_of(tensor: Tensor) -> bool:
    """Whether a tensor lies in a file, as this process is mapped."""
    at = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(each, 16) for each in line.split()[0].split("-"))
        if start <= at < end:
            return WEIGHTS in line or "(deleted)" in line
    return False


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(("name", "variant", "way"), WAYS)
def test_experts_are_those_of_the_file_however_it_stores_them(
    name: str, variant: str, way: Any, mapped: bool, tmp_path: Path
) -> None:
    family = saved(name, variant, way, tmp_path)
    wanted = whole(load_file(tmp_path / WEIGHTS))
    if way is turned:
        wanted = turned(wanted)
    module = family.load(tmp_path, "cpu", mapped=mapped).module
    stacks = {n: p for n, p in module.named_parameters() if n.endswith((UP, DOWN))}
    stacks = {n: p for n, p in stacks.items() if p.dim() == 3}
    assert stacks
    for stack, found in stacks.items():
        assert torch.equal(found, wanted[stack].to(found.dtype)), stack
        if mapped:
            # no memory of ours
            assert found.dtype == torch.float16
            assert files_of(found)
    spec = family.spec(tmp_path)
    assert spec.parameters == sum(p.numel() for p in stored_by(module).values())


@pytest.mark.parametrize("part", ["gate", "up", "down"])
@pytest.mark.parametrize(("name", "variant"), MIXTURES[1:])
def test_an_expert_that_is_not_there_is_named(
    name: str, variant: str, part: str, tmp_path: Path
) -> None:
    # the last one as well, which leaves no hole
    for number in (1, 3):

        def without(tensors: Tensors, number: int = number) -> Tensors:
            found = apart(tensors)
            ending = f"layers.1.mlp.experts.{number}.{part}_proj.weight"
            return {k: v for k, v in found.items() if not k.endswith(ending)}

        family = saved(name, variant, without, tmp_path)
        said = rf"lacks 1 weights, \S+experts\.{number}\.{part}_proj\.weight"
        for read in (family.spec, lambda f, own=family: own.load(f, "cpu")):
            with pytest.raises(ModelError, match=said):
                read(tmp_path)


def test_an_expert_too_many_is_named(tmp_path: Path) -> None:
    def with_more(tensors: Tensors) -> Tensors:
        found = apart(tensors)
        extra = {
            k.replace(".experts.3.", ".experts.4."): v.clone()
            for k, v in found.items()
            if ".experts.3." in k
        }
        return {**found, **extra}

    family = saved("glm4v", "4.5", with_more, tmp_path)
    said = r"stores 2 tensors: \S+experts\.4\.gate_proj\.weight"
    for mapped in (False, True):
        with pytest.raises(ModelError, match=said):
            family.load(tmp_path, "cpu", mapped=mapped)
    with pytest.raises(ModelError, match=said):
        family.spec(tmp_path)


def test_one_expert_in_a_wider_type_keeps_its_values(tmp_path: Path) -> None:
    ending = "layers.1.mlp.experts.2.up_proj.weight"

    def wider(tensors: Tensors) -> Tensors:
        return {
            k: v.float() * 1e7 if k.endswith(ending) else v
            for k, v in apart(tensors).items()
        }

    family = saved("qwen3_5", "moe", wider, tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    wide = next(v for k, v in stored.items() if k.endswith(ending))
    for mapped in (False, True):
        module = family.load(tmp_path, "cpu", mapped=mapped).module
        found = module.get_parameter(f"model.language_model.layers.1.{UP}")[2]
        assert torch.equal(found.chunk(2)[1], wide)


def test_what_no_disk_holds_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = saved("glm4v", "4.5", apart, tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30 + 10)
    )
    said = r"each expert apart: put together they take \S+ kB .* 1\.07 GB left"
    with pytest.raises(ModelError, match=said):
        family.load(tmp_path, "cpu", mapped=True)
    # elsewhere they are in memory, or nowhere
    family.load(tmp_path, "cpu")
    family.spec(tmp_path)


def test_square_experts_that_an_older_release_turned_round_are_refused(
    tmp_path: Path,
) -> None:
    """transformers tells by the shape, which says nothing there."""
    family = saved("qwen_vl", "3-moe", whole, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["text_config"]["hidden_size"] == 64
    tensors = load_file(tmp_path / WEIGHTS)
    for name in [k for k, v in tensors.items() if k.endswith((UP, DOWN))]:
        if tensors[name].dim() == 3:
            cut = (slice(None), slice(128), slice(64))
            tensors[name] = tensors[name][cut].contiguous()
    save_file(tensors, tmp_path / WEIGHTS, {"format": "pt"})
    config["text_config"]["moe_intermediate_size"] = 64
    for version in ("5.24.0", "4.57.1"):
        change(tmp_path / "config.json", **{**config, "transformers_version": version})
        if version.startswith("5"):
            family.load(tmp_path, "cpu")
            continue
        for read in (family.spec, lambda f: family.load(f, "cpu")):
            with pytest.raises(ModelError, match=r"square, by transformers 4\.57\.1"):
                read(tmp_path)


@pytest.mark.parametrize(("name", "variant"), MIXTURES)
def test_on_a_cpu_experts_run_one_after_the_other(
    name: str, variant: str, tmp_path: Path
) -> None:
    family = saved(name, variant, whole, tmp_path)
    for mapped in (False, True):
        module = family.load(tmp_path, "cpu", mapped=mapped).module
        assert set(module.get_experts_implementation().values()) == {"eager"}
