from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Choice
from allocator.core.errors import BankError
from quant.bank import Bank, Recipe, missing_cells
from quant.cells import (
    DamagedCellError,
    add_cells,
    damaged_cells,
    file_of,
    packed_cell,
    read_cell,
    stored_cells,
)
from quant.grid import dequantize, round_to_nearest
from tests.quant.banks import Counted, Loaded, build, prompts
from tests.states import bank_of, opened

if TYPE_CHECKING:
    from pathlib import Path


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(bytes(content))


def test_a_flipped_byte_is_found_at_first_use_and_made_again_alone(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    model, spec = loaded
    method = Counted()
    counted = replace(recipe, methods={"uniform": method})
    bank = bank_of(tmp_path, counted, model, spec, prompts())
    linear = spec.linears[0]
    wanted = {bits: bank.weight(linear, Choice(bits, "uniform")) for bits in (3, 4)}
    file = file_of(bank.folder, linear.name)
    before = stored_cells(file)
    flip(file, -1)
    (damaged,) = damaged_cells(file)
    asked = method.widths.copy()

    again = opened(
        bank.folder, counted, loaded, lambda: build(tmp_path, counted, loaded)
    )
    for bits, weight in wanted.items():
        assert torch.equal(again.weight(linear, Choice(bits, "uniform")), weight)
    assert damaged_cells(file) == ()
    assert stored_cells(file) == before
    # its siblings have to be at hand, but no other width is asked for
    assert set(method.widths - asked) == {int(damaged.split(".")[-1])}
    assert (
        again.cell_sum(linear, Choice(3, "uniform"))
        == before[damaged[:-1] + "3"]["sum"]
    )


def test_a_damaged_cell_that_nobody_can_make_again_is_an_error(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    model, spec = loaded
    bank = bank_of(tmp_path, recipe, model, spec, prompts())
    linear = spec.linears[0]
    file = file_of(bank.folder, linear.name)
    flip(file, -1)
    (key,) = damaged_cells(file)
    method, _, bits = key.split(".")
    with pytest.raises(DamagedCellError, match="bytes changed"):
        bank.weight(linear, Choice(int(bits), method))


def test_no_flipped_byte_anywhere_in_a_file_is_taken_for_a_cell(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    build(tmp_path, recipe, loaded)
    file = file_of(tmp_path / recipe.digest, loaded[1].linears[0].name)
    content = file.read_bytes()
    whole = {key: read_cell(file, key) for key in recipe.stored_keys}
    for at in range(0, len(content), 97):
        file.write_bytes(content)
        flip(file, at)
        for key, cell in whole.items():
            try:
                found = read_cell(file, key)
            except DamagedCellError:
                continue
            assert torch.equal(dequantize(found), dequantize(cell)), at


def test_a_cell_that_comes_out_otherwise_than_it_was_is_described_anew(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    """As on a processor that rounds in another way."""
    build(tmp_path, recipe, loaded)
    linear, choice = loaded[1].linears[0], Choice(3, "uniform")
    folder = tmp_path / recipe.digest
    file, key = file_of(folder, linear.name), recipe.key("uniform", 3)
    before = stored_cells(file)[key]
    other = round_to_nearest(torch.ones(64, 64), recipe.scheme, 3)
    add_cells(folder, {linear.name: {key: packed_cell(other, stored=False)}})
    with pytest.raises(DamagedCellError, match="comes out otherwise than when"):
        opened(folder, recipe, loaded).weight(linear, choice)
    assert build(tmp_path, recipe, loaded) == 1
    assert stored_cells(file)[key] == before
    opened(folder, recipe, loaded).weight(linear, choice)


def test_cells_that_are_not_stored_need_the_checkpoint(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    build(tmp_path, recipe, loaded)
    bank = Bank(tmp_path / recipe.digest, recipe, loaded[1])
    linear = loaded[1].linears[0]
    bank.weight(linear, Choice(3, "gptq"))
    assert bank.part(linear, Choice(3, "uniform"), "channel_scale") is None
    with pytest.raises(BankError, match="not stored, and there is no checkpoint"):
        bank.weight(linear, Choice(3, "uniform"))


def test_equal_cells_are_stored_once(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    one = replace(recipe, methods={"one": Counted()})
    two = replace(recipe, methods={"one": Counted(), "same": Counted()})
    build(tmp_path / "1", one, loaded)
    build(tmp_path / "2", two, loaded)
    files = [
        file_of(tmp_path / name / recipe.digest, loaded[1].linears[0].name)
        for name in ("1", "2")
    ]
    # the second describes four cells instead of two, and holds the same tensors
    assert files[1].stat().st_size - files[0].stat().st_size < 800
    assert len(stored_cells(files[1])) == 4


def test_a_truncated_file_counts_as_missing(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    build(tmp_path, recipe, loaded)
    name = loaded[1].linears[0].name
    file = file_of(tmp_path / recipe.digest, name)
    file.write_bytes(file.read_bytes()[:100])
    assert list(missing_cells(tmp_path / recipe.digest, recipe, [name])) == [name]
