from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Choice, Scheme
from allocator.core.errors import BankError, SpecError
from quant.assignment import Assignment
from quant.bank import MANIFEST
from quant.build import Source
from quant.cells import file_of
from quant.files import DRAFT
from quant.finalized import CHANGED, Finalized
from quant.sequential import quantize_in_sequence
from tests.quant.banks import FAMILY, Loaded, apart, prompts
from tests.quant.sequences import FULL, assigned, in_sequence, recipe_of
from tests.states import made

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_second_call_does_not_even_load_the_model(
    loaded: Loaded, tmp_path: Path
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("loaded")

    wanted = assigned(loaded[1], Choice(3, "gptq"))
    first = in_sequence(tmp_path, wanted, apart(loaded))
    again = quantize_in_sequence(
        tmp_path, wanted, loaded[1].linears, Source(refuse, refuse)
    )
    assert again == first


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
@pytest.mark.parametrize("which", [0, -1, MANIFEST])
def test_what_is_damaged_is_found_and_made_again(
    loaded: Loaded, tmp_path: Path, harm: Callable[[Path], Any], which: Any
) -> None:
    wanted = assigned(loaded[1], Choice(2, "gptq"), FULL)
    first = in_sequence(tmp_path, wanted, apart(loaded))
    linears = [linear for linear in loaded[1].linears if linear.name in first.keys]
    manifest = first.folder / MANIFEST
    if which == MANIFEST:
        harm(manifest)
        if harm is flip:  # the last byte is white space
            manifest.write_text(manifest.read_text().replace("gptq.2.2", "gptq.2.3"))
    else:
        harm(file_of(first.folder, linears[which].name))
    with pytest.raises(BankError, match=r"^(there are no|the) .*finalized|damaged"):
        Finalized.open(first.folder)
    again = in_sequence(tmp_path, wanted, apart(loaded))
    assert again == first
    assert Finalized.open(first.folder) == first


def test_a_run_that_died_leaves_nothing_that_passes_for_whole(
    loaded: Loaded, tmp_path: Path
) -> None:
    wanted = assigned(loaded[1], Choice(2, "gptq"))

    class KilledError(Exception):
        pass

    def die(done: int, total: int) -> None:
        if done > total // 2:
            raise KilledError

    with pytest.raises(KilledError):
        in_sequence(tmp_path, wanted, apart(loaded), progress=die)
    folder = tmp_path / wanted.digest
    assert not (folder / MANIFEST).exists()
    with pytest.raises(BankError, match="there are no finalized weights"):
        Finalized.open(folder)
    # as a kill in the middle of a file would leave it
    (folder / f"{DRAFT}abc").write_bytes(b"half")
    found = in_sequence(tmp_path, wanted, apart(loaded))
    assert len(found.keys) == len(loaded[1].linears)
    assert not list(folder.glob(f"{DRAFT}*"))
    whole = {file.name for file in folder.glob("*.safetensors")}
    assert whole == {file_of(folder, name).name for name in found.keys}


def test_what_folding_changed_is_checked_too(loaded: Loaded, tmp_path: Path) -> None:
    wanted = assigned(loaded[1], Choice(3, "awq"))
    found = in_sequence(tmp_path, wanted, apart(loaded))
    file = found.folder / CHANGED
    flip(file)
    with pytest.raises(BankError, match=f"{CHANGED} is missing or not what"):
        Finalized.open(found.folder)
    file.unlink()
    with pytest.raises(BankError, match=f"{CHANGED} is missing or not what"):
        found.changed()
    again = in_sequence(tmp_path, wanted, apart(loaded))
    assert again == found
    assert again.changed().keys() == found.changed_sums.keys()


def test_what_an_earlier_version_made_is_refused_in_one_sentence(
    loaded: Loaded, tmp_path: Path
) -> None:
    found = in_sequence(tmp_path, assigned(loaded[1], FULL), apart(loaded))
    manifest = found.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(BankError, match="of version 1, whose AWQ scales are not"):
        Finalized.open(found.folder)


def test_another_cell_of_the_same_linear_does_not_pass(
    loaded: Loaded, tmp_path: Path
) -> None:
    wanted = assigned(loaded[1], Choice(2, "gptq"))
    other = replace(wanted, recipe=replace(wanted.recipe, calibration=("c",)))
    assert other.digest != wanted.digest
    state = {**prompts(), "pixel_values": prompts()["pixel_values"].flip(0)}
    first = in_sequence(tmp_path, wanted, apart(loaded))
    second = in_sequence(tmp_path, other, apart(loaded), state)
    name = loaded[1].linears[-1].name
    shutil.copy(file_of(second.folder, name), file_of(first.folder, name))
    with pytest.raises(BankError, match=r"down_proj.* not what was written"):
        Finalized.open(first.folder)


def test_it_stands_for_one_checkpoint_and_one_allocation(
    loaded: Loaded, tmp_path: Path
) -> None:
    wanted = assigned(loaded[1], Choice(2, "uniform"))
    found = in_sequence(tmp_path, wanted, apart(loaded))
    found.check("weights", wanted.choices)
    with pytest.raises(SpecError, match="another checkpoint"):
        found.check("others", wanted.choices)
    first = next(x for x in loaded[1].linears if x.name.endswith("0.self_attn.q_proj"))
    changed = {**wanted.choices, first.name: Choice(4, "uniform")}
    with pytest.raises(SpecError, match=r"q_proj at 2/uniform, not at 4/uniform"):
        found.check("weights", changed)
    with pytest.raises(BankError, match="finalized at 2/uniform, not at 4/uniform"):
        found.cell_sum(first, Choice(4, "uniform"))


def test_a_copy_is_whole_and_replaces_only_its_like(
    loaded: Loaded, tmp_path: Path
) -> None:
    wanted = assigned(loaded[1], Choice(2, "uniform"), FULL)
    found = in_sequence(tmp_path / "home", wanted, apart(loaded))
    target = tmp_path / "out" / "finalized"
    for _ in range(2):
        found.copy(target)
        assert replace(Finalized.open(target), folder=found.folder) == found
        assert [file.name for file in target.parent.iterdir()] == ["finalized"]
    (target / MANIFEST).unlink()
    with pytest.raises(SpecError, match="is in the way"):
        found.copy(target)


def test_a_manifest_that_names_files_elsewhere_is_refused(
    loaded: Loaded, tmp_path: Path
) -> None:
    name = loaded[1].linears[0].name
    wanted = Assignment(recipe_of("uniform"), {name: FULL})
    found = in_sequence(tmp_path, wanted, apart(loaded))
    text = (found.folder / MANIFEST).read_text()
    manifest = json.loads(text.replace(name, "../../evil"))
    outside = Assignment(wanted.recipe, {"../../evil": FULL})
    manifest["digest"] = outside.digest
    (found.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BankError, match="names files elsewhere"):
        Finalized.open(found.folder)


def test_the_folder_follows_from_everything_the_weights_depend_on(
    loaded: Loaded,
) -> None:
    wanted = assigned(loaded[1], Choice(2, "gptq"))
    recipe = wanted.recipe
    others = [
        assigned(loaded[1], Choice(3, "gptq")),
        assigned(loaded[1], Choice(2, "gptq"), FULL),
        assigned(loaded[1], Choice(2, "awq")),
        *(
            replace(wanted, recipe=replace(recipe, **change))
            for change in (
                {"weights": "others"},
                {"calibration": ("a",)},
                {"scheme": Scheme(64)},
            )
        ),
        replace(wanted, corrected=False),
    ]
    names = {each.digest for each in (wanted, *others)}
    assert len(names) == 1 + len(others)
    # methods and widths that are not used change nothing
    fewer = replace(wanted, recipe=recipe_of("gptq", widths=(2, 16)))
    assert fewer.digest == wanted.digest


@pytest.mark.slow
def test_a_killed_process_leaves_whole_files_and_no_manifest(tmp_path: Path) -> None:
    state = made(FAMILY, tmp_path / "model")
    spec = FAMILY.spec(tmp_path / "model")
    wanted = assigned(spec, Choice(2, "gptq"))
    words = [sys.executable, "-m", "tests.quant.sequences", "9", str(tmp_path / "out")]
    done = subprocess.run([*words, str(tmp_path / "model")], check=False)
    assert done.returncode == -9
    folder = tmp_path / "out" / wanted.digest
    assert not (folder / MANIFEST).exists()
    # of the stage that was done; nothing of the one that was under way
    first = {x.name for x in spec.linears if "vision_tower.encoder.layers.0." in x.name}
    assert {file.stem for file in folder.glob("*.safetensors")} == first
    model = FAMILY.load(tmp_path / "model", "cpu", mapped=True)
    found = in_sequence(tmp_path / "out", wanted, (model, spec), state)
    assert set(found.keys) == set(wanted.keys)
