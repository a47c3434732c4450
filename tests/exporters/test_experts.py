"""Experts go where a format has a place for them, and are refused elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.errors import BankError, ModelError, SpecError
from allocator.core.holding import within_target
from allocator.core.plugins import available, load
from allocator.core.targets import TARGETS
from allocator.exporters._checkpoint import Checkpoint
from allocator.exporters._export import Export

if TYPE_CHECKING:
    from pathlib import Path

    from quant.grid import Cell

FAMILY = load("allocator.families", "qwen_vl")
FULL, LOW = Choice(16), Choice(4, "uniform")
PACKED = sorted(set(available("allocator.exporters")) - {"plan"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("mixture")
    FAMILY.tiny(made, "3-moe")
    return made


def export_of(folder: Path, kind: str) -> Export:
    """All linears of a type at 4 bits; no cell of them is ever asked for."""
    spec = FAMILY.spec(folder)
    chosen = {g.key: LOW if g.key.endswith(kind) else FULL for g in spec.groups}
    allocation = Allocation.of(spec.keys, chosen)
    model = FAMILY.load(folder, "cpu", mapped=True)

    def no_cell(name: str) -> Cell:
        raise BankError(name)

    made = Checkpoint(spec, Scheme(32), allocation, folder, model, no_cell)
    return Export({"scheme": {}}, lambda: made)


@pytest.mark.parametrize("fmt", PACKED)
def test_a_format_without_a_place_for_experts_refuses_them_before_it_writes(
    folder: Path, fmt: str
) -> None:
    with pytest.raises(SpecError, match=r"experts|qwen3_vl_moe") as caught:
        load("allocator.exporters", fmt).check(export_of(folder, "ff"))
    assert "\n" not in str(caught.value)


def test_which_experts_are_refused_is_said_with_the_way_out(folder: Path) -> None:
    exporter = load("allocator.exporters", "compressed_tensors")
    with pytest.raises(SpecError, match=r"cannot hold experts below 16 bits") as caught:
        exporter.check(export_of(folder, "ff"))
    said = str(caught.value)
    # 4 experts of one block, two matrices each
    assert "and 8 of language.all.ff are" in said
    assert "--format plan" in said


def test_a_plan_is_written_whatever_it_says_of_experts(folder: Path) -> None:
    load("allocator.exporters", "plan").check(export_of(folder, "ff"))


def test_experts_at_sixteen_bits_are_not_what_is_refused(folder: Path) -> None:
    """Names of this model are: nobody knows how transformers 5 would have it read."""
    exporter = load("allocator.exporters", "compressed_tensors")
    with pytest.raises(ModelError, match=r"saved this 'qwen3_vl_moe' model"):
        exporter.check(export_of(folder, "attn"))


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_search_for_a_runtime_without_experts_is_refused_early(
    folder: Path, target: str
) -> None:
    spec = FAMILY.spec(folder)
    if target == "none":
        assert within_target(spec, Scheme(32, target=target)) == spec
        return
    symmetric = target == "llama.cpp"
    with pytest.raises(SpecError, match=r"experts") as caught:
        within_target(spec, Scheme(32, symmetric, target=target))
    assert "\n" not in str(caught.value)


def test_a_spec_says_which_linears_are_experts(folder: Path) -> None:
    found = [linear.name for linear in FAMILY.spec(folder).linears if linear.is_expert]
    stacks = {name.rpartition(".")[0] for name in found}
    block = "model.language_model.layers.1.mlp.experts"
    assert stacks == {f"{block}.gate_up_proj", f"{block}.down_proj"}
    assert len(found) == 8
