"""Files that are not what was written: found when first used, named, made again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Choice
from allocator.core.errors import BankError
from quant.bank import MANIFEST, Bank, missing_cells
from quant.cells import add_cells, file_of, packed_cell, stored_cells
from quant.finalized import CHANGED, verify_finalized
from quant.pooling import FED, fed_manifest
from quant.upkeep import verify
from tests.quant.banks import Counted, Loaded, apart, build
from tests.quant.sequences import assigned, in_sequence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quant.bank import Recipe


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def swapped(file: Path) -> None:
    """The file of a sibling, whose matrices have the same shape."""
    other = file.with_name(file.name.replace("q_proj", "k_proj"))
    file.write_bytes(other.read_bytes())


@pytest.fixture
def counted(recipe: Recipe) -> Recipe:
    return replace(recipe, methods={"mine": Counted()})


@pytest.mark.parametrize("damage", [flipped, cut, emptied, swapped])
def test_a_damaged_bank_is_named_and_made_again_alone(
    tmp_path: Path, loaded: Loaded, counted: Recipe, damage: Callable[[Path], None]
) -> None:
    build(tmp_path, counted, loaded)
    folder = tmp_path / counted.digest
    linear = next(x for x in loaded[1].linears if x.name.endswith("q_proj"))
    file, choice = file_of(folder, linear.name), Choice(3, "mine")
    before = stored_cells(file)
    wanted = Bank(folder, counted, loaded[1]).weight(linear, choice)
    damage(file)
    assert {each["file"] for each in verify(folder)["damaged"]} == {str(file)}
    method: Any = counted.methods["mine"]
    asked = method.widths.copy()
    if missing_cells(folder, counted, [linear.name]):
        with pytest.raises(BankError, match=f"lacks 1 linears, {linear.name}"):
            Bank(folder, counted, loaded[1])
    build(tmp_path, counted, loaded)
    bank = Bank(
        folder, counted, loaded[1], lambda: build(tmp_path, counted, apart(loaded))
    )
    assert torch.equal(bank.weight(linear, choice), wanted)
    assert stored_cells(file) == before
    assert verify(folder)["damaged"] == []
    # those that share its input are solved with it, and nothing else
    assert max((method.widths - asked).values()) == 3


def test_cells_in_files_of_before_that_name_no_linear_are_read(
    tmp_path: Path, loaded: Loaded, counted: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quant import cells

    def nameless(tensors: Any, file: Path, said: dict[str, str]) -> None:
        save(tensors, file, {"cells": said["cells"]})

    save = cells.save_file
    monkeypatch.setattr(cells, "save_file", nameless)
    build(tmp_path, counted, loaded)
    Bank(tmp_path / counted.digest, counted, loaded[1])


def test_a_manifest_that_is_damaged_is_written_again(
    tmp_path: Path, loaded: Loaded, counted: Recipe
) -> None:
    build(tmp_path, counted, loaded)
    manifest = tmp_path / counted.digest / MANIFEST
    before = manifest.read_text()
    manifest.write_bytes(b"\xff" + before.encode()[1:])
    assert [e["cell"] for e in verify(manifest.parent)["damaged"]] == ["all"]
    assert build(tmp_path, counted, loaded) == 0
    assert manifest.read_text() == before


def test_what_was_noted_of_experts_is_left_out_where_it_is_damaged(
    tmp_path: Path,
) -> None:
    (tmp_path / FED).mkdir()
    whole = {"inputs": 4, "tokens": [1, 2]}
    for stack, text in {
        "a.up": json.dumps(whole),
        "a.down": "{",
        "a.gate": json.dumps({"inputs": 4, "tokens": "none"}),
    }.items():
        (tmp_path / FED / f"{stack}.json").write_text(text)
    names = [f"{stack}.0" for stack in ("a.up", "a.down", "a.gate")]
    found = fed_manifest(tmp_path, names, 2)["experts"]
    assert found["stacks"] == {"a.up": whole}


@pytest.mark.parametrize("damage", [flipped, cut, swapped])
def test_finalized_weights_are_made_again(
    tmp_path: Path, loaded: Loaded, damage: Callable[[Path], None]
) -> None:
    wanted = assigned(loaded[1], Choice(3, "uniform"))
    found = in_sequence(tmp_path, wanted, apart(loaded))
    name = next(x.name for x in loaded[1].linears if x.name.endswith("q_proj"))
    damage(file_of(found.folder, name))
    assert verify_finalized(found.folder)["cells"] == len(loaded[1].linears)
    (bad,) = verify_finalized(found.folder)["damaged"]
    assert bad["file"] == str(file_of(found.folder, name))
    with pytest.raises(BankError, match=f"{name}.safetensors is missing or not what"):
        found.check_cell(found.folder, name)
    assert in_sequence(tmp_path, wanted, apart(loaded)).sums == found.sums


@pytest.mark.parametrize("file", [CHANGED, MANIFEST])
def test_what_belongs_to_finalized_weights_is_verified_too(
    tmp_path: Path, loaded: Loaded, file: str
) -> None:
    wanted = assigned(loaded[1], Choice(3, "awq"))
    found = in_sequence(tmp_path, wanted, apart(loaded))
    assert verify_finalized(found.folder)["damaged"] == []
    cut(found.folder / file)
    (bad,) = verify_finalized(found.folder)["damaged"]
    assert bad == {"file": str(found.folder / file), "cell": "all"}


def test_a_cell_of_another_linear_is_not_taken_over(
    tmp_path: Path, loaded: Loaded, counted: Recipe
) -> None:
    """Neither are cells added beside those that somebody put there."""
    build(tmp_path, counted, loaded)
    folder = tmp_path / counted.digest
    one, other = (
        next(x for x in loaded[1].linears if x.name.endswith(end))
        for end in ("q_proj", "k_proj")
    )
    own = stored_cells(file_of(folder, one.name))
    file_of(folder, one.name).write_bytes(file_of(folder, other.name).read_bytes())
    weight = loaded[0].module.get_submodule(one.name).weight.detach()
    cell = counted.made_alone("mine", weight, 3)
    key = counted.key("mine", 3)
    add_cells(folder, {one.name: {key: packed_cell(cell)}})
    assert stored_cells(file_of(folder, one.name)) == {key: own[key]}
