from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from quant.bank import MANIFEST, missing_cells
from quant.cells import (
    add_cells,
    file_of,
    has_tensors,
    packed_cell,
    stored_cells,
)
from quant.upkeep import sweep, verify
from tests.quant.banks import Counted, Loaded, build

if TYPE_CHECKING:
    from pathlib import Path

    from quant.bank import Recipe


@pytest.fixture
def folder(tmp_path: Path, recipe: Recipe, loaded: Loaded) -> Path:
    build(tmp_path, recipe, loaded)
    return tmp_path / recipe.digest


def versions(recipe: Recipe) -> dict[str, int]:
    return {name: method.version for name, method in recipe.methods.items()}


def test_a_whole_bank_is_verified(folder: Path, recipe: Recipe, loaded: Loaded) -> None:
    found = verify(folder)
    assert found["damaged"] == []
    assert found["finished"]
    assert found["cells"] == len(loaded[1].linears) * len(recipe.keys)


@pytest.mark.parametrize("at", [0, 9, 300, -1])
def test_every_kind_of_damage_is_found(folder: Path, loaded: Loaded, at: int) -> None:
    # the length of the header, the header, a description, a scale
    file = file_of(folder, loaded[1].linears[5].name)
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(bytes(content))
    found = verify(folder)
    assert found["damaged"]
    assert {each["file"] for each in found["damaged"]} == {str(file)}


def test_a_file_that_is_gone_is_found(
    folder: Path, recipe: Recipe, loaded: Loaded
) -> None:
    file_of(folder, loaded[1].linears[5].name).unlink()
    assert len(verify(folder)["damaged"]) == len(recipe.keys)


def test_an_unreadable_file_of_an_unfinished_bank_is_found(
    folder: Path, loaded: Loaded
) -> None:
    (folder / MANIFEST).unlink()
    file_of(folder, loaded[1].linears[5].name).write_bytes(b"")
    found = verify(folder)
    assert not found["finished"]
    assert len(found["damaged"]) == 1


def test_a_damaged_manifest_is_found(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")
    assert [each["cell"] for each in verify(folder)["damaged"]] == ["all"]


def test_nothing_that_can_be_used_is_swept(folder: Path, recipe: Recipe) -> None:
    files = [file for file in folder.iterdir() if file.is_file()]
    before = {file: file.read_bytes() for file in files}
    assert sweep(folder, versions(recipe)) == []
    assert before == {file: file.read_bytes() for file in files}


def test_cells_of_a_method_that_has_changed_are_swept(
    folder: Path, tmp_path: Path, recipe: Recipe, loaded: Loaded
) -> None:
    changed = {**versions(recipe), "gptq": recipe.methods["gptq"].version + 1}
    assert sweep(folder, changed, dry_run=True)
    assert verify(folder)["cells"] == len(loaded[1].linears) * 4
    removed = sweep(folder, changed)
    assert len(removed) == len(loaded[1].linears)
    assert all(each["bytes"] > 0 for each in removed)
    found = verify(folder)
    # two widths of uniform are left, and the manifest knows
    assert found["damaged"] == []
    assert found["cells"] == len(loaded[1].linears) * 2
    names = [linear.name for linear in loaded[1].linears]
    uniform = replace(recipe, methods={"uniform": recipe.methods["uniform"]})
    assert missing_cells(folder, uniform, names) == {}
    assert build(tmp_path, recipe, loaded) == len(names) * 2


def test_cells_of_a_method_that_is_gone_are_swept_with_their_file(
    tmp_path: Path, recipe: Recipe, loaded: Loaded
) -> None:
    own = replace(recipe, methods={"mine": Counted()})
    build(tmp_path, own, loaded)
    sweep(tmp_path / own.digest, versions(recipe))
    name = loaded[1].linears[0].name
    assert stored_cells(file_of(tmp_path / own.digest, name)) == {}
    assert not file_of(tmp_path / own.digest, name).exists()


def test_tensors_that_are_made_when_asked_for_are_swept(
    folder: Path, recipe: Recipe, loaded: Loaded
) -> None:
    """Banks of before have them."""
    linear = loaded[1].linears[0]
    key = recipe.key("uniform", 3)
    file = file_of(folder, linear.name)
    weight = loaded[0].module.get_submodule(linear.name).weight.detach()
    before = stored_cells(file)
    cell = recipe.made_alone("uniform", weight, 3)
    add_cells(folder, {linear.name: {key: packed_cell(cell)}})
    assert has_tensors(stored_cells(file)[key])
    assert missing_cells(folder, recipe, [linear.name]) == {}
    assert len(sweep(folder, versions(recipe), alone=["uniform"], dry_run=True)) == 1
    (removed,) = sweep(folder, versions(recipe), alone=["uniform"])
    # 64 x 64 codes of 3 bits, and for each row a scale of 16 bits and a zero-point
    assert removed["bytes"] > 64 * 64 * 3 // 8 + 64 * 2 + 64 * 3 // 8
    assert stored_cells(file) == before
    assert verify(folder)["damaged"] == []


def test_drafts_and_spools_of_runs_that_died_are_swept(
    folder: Path, recipe: Recipe
) -> None:
    for name in (".part-x", ".spool-y"):
        (folder / name).write_bytes(b"half")
    removed = sweep(folder, versions(recipe))
    assert [each["bytes"] for each in removed] == [4, 4]
    assert not list(folder.glob(".part-*"))
    assert not list(folder.glob(".spool-*"))


def test_a_bank_goes_once_it_was_not_used_for_long_enough(
    folder: Path, recipe: Recipe
) -> None:
    day = 86_400
    os.utime(folder / MANIFEST, (time.time() - 10 * day,) * 2)
    assert sweep(folder, versions(recipe), unused=11 * day) == []
    assert folder.exists()
    (gone,) = sweep(folder, versions(recipe), unused=9 * day)
    assert gone["what"] == str(folder)
    assert not folder.exists()


def test_a_bank_in_another_format_goes(folder: Path, recipe: Recipe) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 1}))
    (gone,) = sweep(folder, versions(recipe))
    assert gone["what"] == str(folder)
    assert not folder.exists()
