from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Choice, Scheme
from allocator.core.errors import BankError
from quant import cells as cells_of_files
from quant.bank import MANIFEST, Bank, Recipe, read_manifest
from quant.cells import (
    file_of,
    stored_cells,
)
from quant.grid import dequantize, round_to_nearest
from quant.kept import Kept
from tests.quant.banks import Counted, Loaded, build, prompts
from tests.states import bank_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_cell_reads_back_as_it_was_made(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    model, spec = loaded
    bank = bank_of(tmp_path, recipe, model, spec, prompts())
    for linear in spec.linears:
        weight = model.module.get_submodule(linear.name).weight
        wanted = dequantize(round_to_nearest(weight, Scheme(), 3))
        assert torch.equal(bank.weight(linear, Choice(3, "uniform")), wanted)


@pytest.mark.parametrize("kept", [Kept([]), Kept.mapped(), None])
def test_what_is_put_in_place_is_compared_with_its_checksums_once(
    tmp_path: Path,
    loaded: Loaded,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    kept: Kept | None,
) -> None:
    model, spec = loaded
    counted = replace(recipe, methods={"uniform": Counted()})
    bank = bank_of(tmp_path, counted, model, spec, prompts())
    if kept is not None:
        bank.kept = kept
    usual, compared = cells_of_files.checksum, []
    monkeypatch.setattr(
        cells_of_files, "checksum", lambda part: (compared.append(part), usual(part))[1]
    )
    linear, choice = spec.linears[0], Choice(3, "uniform")
    wanted = bank.weight(linear, choice)
    # codes, scales and zero-points
    assert len(compared) == 3
    for _ in range(3):
        out = torch.zeros_like(wanted)
        assert bank.put(linear, choice, out) > 0
        assert torch.equal(out, wanted)
    assert len(compared) == 3


def test_cells_that_are_not_stored_are_put_in_place_too(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    model, spec = loaded
    bank = bank_of(tmp_path, recipe, model, spec, prompts())
    linear = spec.linears[0]
    weight = model.module.get_submodule(linear.name).weight
    out = torch.zeros_like(weight)
    bank.put(linear, Choice(3, "uniform"), out)
    assert torch.equal(out, dequantize(round_to_nearest(weight, Scheme(), 3)))


def test_opening_a_bank_refuses_a_missing_cell(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    build(tmp_path, recipe, loaded)
    folder, name = tmp_path / recipe.digest, loaded[1].linears[3].name
    file_of(folder, name).unlink()
    with pytest.raises(BankError, match=name):
        Bank(folder, recipe, loaded[1])


def test_the_manifest_lists_every_cell_with_its_checksum(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    build(tmp_path, recipe, loaded)
    folder = tmp_path / recipe.digest
    listed = read_manifest(folder)["linears"]
    assert set(listed) == {linear.name for linear in loaded[1].linears}
    for name, sums in listed.items():
        stored = stored_cells(file_of(folder, name))
        assert sums == {key: cell["sum"] for key, cell in stored.items()}
        assert set(sums) == set(recipe.keys)


def test_a_damaged_manifest_is_an_error_in_one_sentence(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    build(tmp_path, recipe, loaded)
    folder = tmp_path / recipe.digest
    manifest = json.loads((folder / MANIFEST).read_text())
    for wrong in ("", "{}", json.dumps({**manifest, "linears": 3})):
        (folder / MANIFEST).write_text(wrong)
        with pytest.raises(BankError, match="is damaged"):
            read_manifest(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(BankError, match="is not finished"):
        read_manifest(folder)
