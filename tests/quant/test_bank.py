from __future__ import annotations

from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Choice, Scheme
from allocator.core.errors import BankError
from allocator.core.plugins import load
from quant.bank import (
    MANIFEST,
    Bank,
    Recipe,
    build_bank,
    file_of,
    missing_cells,
    read_cell,
    stored_cells,
)
from quant.grid import dequantize, round_to_nearest
from tests.states import state_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model
    from allocator.core.spec import ModelSpec

FAMILY = load("allocator.families", "llava")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, ModelSpec]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    FAMILY.tiny(folder)
    return FAMILY.load(folder, "cpu"), FAMILY.spec(folder)


@pytest.fixture
def recipe() -> Recipe:
    methods = {name: load("quant.methods", name) for name in ("uniform", "gptq")}
    return Recipe("weights", ("a", "b"), Scheme(), methods, (3, 4, 16))


def build(root: Path, recipe: Recipe, model: Model) -> Path:
    return build_bank(
        root, recipe, model, lambda: [state_of(model.module)], lambda *_: None
    )


class Counted:
    """A method that counts the linears it is asked for."""

    version = 1

    def __init__(self) -> None:
        self.linears = 0

    def quantize(self, weights: Any, *args: Any, **options: Any) -> Any:
        self.linears += len(weights)
        return load("quant.methods", "uniform").quantize(weights, *args, **options)


def test_a_cell_reads_back_as_it_was_made(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    bank = Bank(build(tmp_path, recipe, model), recipe, spec)
    for linear in spec.linears:
        weight = model.module.get_submodule(linear.name).weight
        wanted = dequantize(round_to_nearest(weight, Scheme(), 3))
        assert torch.equal(bank.weight(linear, Choice(3, "uniform")), wanted)


def test_a_second_build_makes_nothing(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    method = Counted()
    counted = replace(recipe, methods={"uniform": method})
    build(tmp_path, counted, model)
    # every linear once, in one call for all widths
    assert method.linears == len(spec.linears)
    build(tmp_path, counted, model)
    assert method.linears == len(spec.linears)


def test_a_stopped_build_goes_on_with_what_is_missing(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    method = Counted()
    counted = replace(recipe, methods={"uniform": method})
    folder = build(tmp_path, counted, model)
    last = spec.linears[-1].name  # down_proj, the only linear to read its input
    file_of(folder, last).unlink()
    (folder / MANIFEST).unlink()
    build(tmp_path, counted, model)
    assert method.linears == len(spec.linears) + 1
    assert (folder / MANIFEST).exists()


def test_more_widths_are_added_beside_the_cells_that_are_there(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    folder = build(tmp_path, recipe, model)
    before = stored_cells(file_of(folder, spec.linears[0].name))
    wider = replace(recipe, widths=(2, 3, 4, 16))
    assert build(tmp_path, wider, model) == folder
    after = stored_cells(file_of(folder, spec.linears[0].name))
    assert {key: after[key] for key in before} == before
    assert set(after) == set(wider.keys)


def test_opening_a_bank_refuses_a_missing_cell(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    folder = build(tmp_path, recipe, model)
    name = spec.linears[3].name
    file_of(folder, name).unlink()
    with pytest.raises(BankError, match=name):
        Bank(folder, recipe, spec)


def test_a_truncated_file_counts_as_missing(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    folder = build(tmp_path, recipe, model)
    name = spec.linears[0].name
    file = file_of(folder, name)
    file.write_bytes(file.read_bytes()[:100])
    assert list(missing_cells(folder, recipe, [name])) == [name]


def test_a_flipped_byte_is_found_at_first_use(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    folder = build(tmp_path, recipe, model)
    file = file_of(folder, spec.linears[0].name)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(BankError, match="damaged and is removed"):
        _read_all(file, recipe)
    # out of the way: the next build makes it again
    assert not file.exists()
    build(tmp_path, recipe, model)
    _read_all(file, recipe)


def _read_all(file: Path, recipe: Recipe) -> None:
    for key in recipe.keys:
        read_cell(file, key)


def test_two_writers_of_one_file_lose_no_cell(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    rows = {
        label: replace(recipe, methods={label: m})
        for label, m in recipe.methods.items()
    }
    threads = [
        Thread(target=build, args=(tmp_path, row, model)) for row in rows.values()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Bank(tmp_path / recipe.digest, recipe, spec)


def test_equal_cells_are_stored_once(
    tmp_path: Path, loaded: tuple[Model, ModelSpec], recipe: Recipe
) -> None:
    model, spec = loaded
    twice = {"uniform": load("quant.methods", "uniform"), "same": Counted()}
    one = build(
        tmp_path / "1", replace(recipe, methods={"uniform": twice["uniform"]}), model
    )
    two = build(tmp_path / "2", replace(recipe, methods=twice), model)
    name = spec.linears[0].name
    sizes = [file_of(folder, name).stat().st_size for folder in (one, two)]
    # the second file describes four cells instead of two, and holds the same tensors
    assert sizes[1] - sizes[0] < 600
    assert len(stored_cells(file_of(two, name))) == 4


def test_calibration_does_not_count_padding(loaded: tuple[Model, ModelSpec]) -> None:
    from quant.calibration import calibrate

    model, _ = loaded
    state = state_of(model.module)
    tokens = {
        name: each.inputs.tokens
        for stage in calibrate(model, [state])
        for each in stage
        for name in each.siblings.names
    }
    # two prompts of eight tokens, one of them padding; five vision tokens an image
    assert tokens["model.language_model.layers.0.mlp.up_proj"] == 15
    assert tokens["model.vision_tower.encoder.layers.0.mlp.fc1"] == 10
