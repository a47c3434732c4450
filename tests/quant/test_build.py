from __future__ import annotations

import json
import shutil
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import WIDTHS, Choice, Scheme
from allocator.core.errors import BankError, ModelError
from allocator.core.plugins import load
from quant import cells, files
from quant.bank import MANIFEST, Bank, Recipe
from quant.build import Source, build_bank
from quant.cells import file_of, packed_cell, stored_cells
from quant.grid import round_to_nearest
from quant.needs import missing_bytes
from tests.families.test_llava_sizes import PUBLISHED
from tests.quant.banks import FAMILY, Counted, Loaded, apart, build, prompts
from tests.states import made, opened

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_build_makes_nothing(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    method = Counted()
    counted = replace(recipe, methods={"uniform": method})
    every = len(loaded[1].linears)
    assert build(tmp_path, counted, loaded) == 2 * every
    assert method.widths == {3: every, 4: every}
    assert build(tmp_path, counted, loaded) == 0
    assert method.widths == {3: every, 4: every}


def test_a_second_build_does_not_even_load_the_model(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("loaded")

    build(tmp_path, recipe, loaded)
    assert build_bank(tmp_path, recipe, loaded[1].linears, Source(refuse, refuse)) == 0


def test_a_stopped_build_goes_on_with_what_is_missing(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    method = Counted()
    counted = replace(recipe, methods={"uniform": method})
    build(tmp_path, counted, loaded)
    folder = tmp_path / counted.digest
    last = loaded[1].linears[-1].name  # down_proj, the only linear to read its input
    file_of(folder, last).unlink()
    (folder / MANIFEST).unlink()
    before = method.widths.total()
    assert build(tmp_path, counted, loaded) == 2
    assert method.widths.total() == before + 2
    assert (folder / MANIFEST).exists()


def test_more_widths_are_added_beside_the_cells_that_are_there(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    build(tmp_path, recipe, loaded)
    first = file_of(tmp_path / recipe.digest, loaded[1].linears[0].name)
    before = stored_cells(first)
    wider = replace(recipe, widths=(2, 3, 4, 16))
    # one width of two methods
    assert build(tmp_path, wider, loaded) == 2 * len(loaded[1].linears)
    after = stored_cells(first)
    assert {key: after[key] for key in before} == before
    assert set(after) == set(wider.keys)


def test_threads_that_build_one_bank_share_the_work(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    method = Counted()
    counted = replace(recipe, methods={"uniform": method})
    made: list[int] = []
    rows = [apart(loaded) for _ in range(3)]
    threads = [
        Thread(
            target=lambda own: made.append(build(tmp_path, counted, own)), args=(row,)
        )
        for row in rows
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = len(loaded[1].linears)
    # nothing was made twice
    assert sum(made) == 2 * every
    assert method.widths == {3: every, 4: every}
    Bank(tmp_path / counted.digest, counted, loaded[1])


def test_builds_of_different_methods_lose_no_cell(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    rows = [replace(recipe, methods={k: m}) for k, m in recipe.methods.items()]
    threads = [
        Thread(target=build, args=(tmp_path, row, apart(loaded))) for row in rows
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Bank(tmp_path / recipe.digest, recipe, loaded[1])


def test_a_bank_that_does_not_fit_on_the_disk_is_refused_before_it_starts(
    tmp_path: Path, loaded: Loaded, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("loaded")

    usage = shutil.disk_usage(tmp_path)._replace(free=10**4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(BankError, match=r"0\.0 GB free: limit it with --methods"):
        build_bank(tmp_path, recipe, loaded[1].linears, Source(refuse, refuse))


def test_bytes_on_disk_are_what_was_announced(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    linears = loaded[1].linears
    # other methods may find the same scales, which are then stored once
    recipe = replace(recipe, methods={"uniform": Counted()})
    names = {linear.name: list(recipe.keys) for linear in linears}
    build(tmp_path, recipe, loaded)
    folder = tmp_path / recipe.digest
    stored = 0
    for name in names:
        content = file_of(folder, name).read_bytes()
        # a safetensors file is 8 bytes of length, a header of that length, the data
        stored += len(content) - 8 - int.from_bytes(content[:8], "little")
    announced = missing_bytes(recipe, linears, names)
    # no channel scales and no shapes here
    spare = sum(len(recipe.keys) * (16 + 2 * linear.in_features) for linear in linears)
    assert stored == announced - spare


def test_three_methods_at_six_widths_of_llava_take_at_most_52_gb(
    tmp_path: Path,
) -> None:
    published = PUBLISHED["llava-hf/llava-1.5-7b-hf"].config
    (tmp_path / "config.json").write_text(json.dumps(published))
    linears = FAMILY.spec(tmp_path).linears
    methods = {name: load("quant.methods", name) for name in ("uniform", "gptq", "awq")}
    recipe = Recipe("", (), Scheme(), methods, WIDTHS)
    everything = {linear.name: list(recipe.keys) for linear in linears}
    # codes of six widths take 28 bits a weight, and so do zero-points for each 128
    # weights, with a scale of 16 bits each time; uniform's are not stored
    weights = sum(linear.weights for linear in linears)
    bits = 28 + (28 + 6 * 16) / 128
    needed = missing_bytes(recipe, linears, everything)
    assert needed == pytest.approx(2 * weights * bits / 8, rel=0.001)
    assert needed < 52e9


def test_cells_that_are_not_stored_need_no_pass(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("calibrated")

    model, spec = loaded
    rounded = replace(recipe, methods={"uniform": recipe.methods["uniform"]})
    source = Source(lambda: model, refuse)
    assert build_bank(tmp_path, rounded, spec.linears, source) == 2 * len(spec.linears)
    bank, choice = (
        opened(tmp_path / rounded.digest, rounded, loaded),
        Choice(3, "uniform"),
    )
    for linear in spec.linears:
        weight = model.module.get_submodule(linear.name).weight.detach()
        wanted = round_to_nearest(weight, Scheme(), 3)
        assert torch.equal(bank.cell(linear, choice).codes, wanted.codes)
        # records have the checksum of the cell as it would be stored
        assert bank.cell_sum(linear, choice) == packed_cell(wanted)[0]["sum"]


def test_each_file_is_written_once(
    tmp_path: Path, loaded: Loaded, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def replace_files(writers: dict[Path, Any], needed: float) -> None:
        written.extend(file.name for file in writers)
        files.replace_files(writers, needed)

    monkeypatch.setattr(cells, "replace_files", replace_files)
    three = replace(recipe, methods={**recipe.methods, "mine": Counted()})
    build(tmp_path, three, loaded)
    names = [file_of(tmp_path, linear.name).name for linear in loaded[1].linears]
    assert sorted(written) == sorted(names)


def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, recipe: Recipe
) -> None:
    made(FAMILY, tmp_path / "model")
    model, spec = (
        FAMILY.load(tmp_path / "model", "cpu"),
        FAMILY.spec(tmp_path / "model"),
    )
    name = "model.language_model.layers.1.mlp.down_proj"
    model.module.get_submodule(name).weight.data[3, 5] = float("nan")
    with pytest.raises(ModelError, match=f"{name}: weights hold"):
        build(tmp_path / "bank", recipe, (model, spec))
    # what came before is kept, nothing is left in pieces
    folder = tmp_path / "bank" / recipe.digest
    assert file_of(folder, "model.multi_modal_projector.linear_1").exists()
    assert not list(folder.glob(".part-*"))
    assert not (folder / MANIFEST).exists()


def test_activations_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, loaded: Loaded, recipe: Recipe
) -> None:
    model, spec = loaded
    state = prompts()
    state["pixel_values"][0, 0, 0, 0] = float("inf")
    source = Source(lambda: model, lambda _: [state])
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj.*activations"):
        build_bank(tmp_path, recipe, spec.linears, source)
