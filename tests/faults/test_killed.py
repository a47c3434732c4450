"""SIGKILL while something is made: on from what was finished, nothing half-written."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench.contents import Contents
from allocator.core.allocation import Choice
from allocator.core.drafts import DRAFT, LOCKED, OLD, clear_drafts, draft_file
from allocator.core.errors import SpecError
from allocator.core.plugins import load
from allocator.exporters._place import check_place, draft_of
from allocator.report.output import write_atomically
from quant.bank import Bank, read_manifest
from quant.finalized import MANIFEST
from quant.streaming import SPOOLED, Spool
from tests.faults.killing import die, dying_at, killed, noted, noting, patched
from tests.quant.banks import FAMILY, Counted, build
from tests.quant.sequences import assigned, in_sequence, recipe_of
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

    from quant.bank import Recipe


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made(FAMILY, folder)
    return folder


def opened(model: Path) -> Any:
    return FAMILY.load(model, "cpu", mapped=True), FAMILY.spec(model)


def two_methods() -> Recipe:
    names = ("uniform", "gptq")
    methods = {name: load("quant.methods", name) for name in names}
    return replace(recipe_of(*names), methods={**methods, "mine": Counted()})


def _build(model: Path, root: Path, point: str, call: int) -> None:
    """Build a bank, killed at a call; the linears that were written are noted."""
    folded = noting(root.parent / "cells", lambda _, packed: sorted(packed))
    patched("quant.build:add_cells", folded)
    patched(point, dying_at(call))
    build(root, two_methods(), opened(model))


def drafts(folder: Path) -> list[Path]:
    return [*folder.rglob(f"{DRAFT}*"), *folder.rglob(f"{SPOOLED}*")]


# in a draft, and between two files of a set that take their places
@pytest.mark.parametrize(
    ("point", "call"),
    [
        pytest.param("quant.cells:save_file", 5, marks=pytest.mark.slow),
        ("pathlib:Path.replace", 6),
    ],
)
def test_a_bank_that_was_killed_makes_nothing_twice(
    model: Path, tmp_path: Path, point: str, call: int
) -> None:
    root, recipe = tmp_path / "bank", two_methods()
    assert killed(_build, model, root, point, call)
    folder = root / recipe.digest
    assert drafts(folder)
    written = {name for own in noted(tmp_path / "cells") for name in own}
    finished = {file.stem for file in folder.glob("*.safetensors")}
    method: Any = recipe.methods["mine"]
    build(root, recipe, opened(model))
    spec = FAMILY.spec(model)
    bank = Bank(folder, recipe, spec)
    # of the set that was under way nothing is known to be finished until it is written
    assert method.widths[2] == len(spec.linears) - len(finished)
    assert written <= finished
    assert drafts(folder) == []
    whole = tmp_path / "whole"
    build(whole, two_methods(), opened(model))
    assert read_manifest(whole / recipe.digest) == read_manifest(bank.folder)


def _finalize(model: Path, root: Path, call: int) -> None:
    """Quantize in sequence, killed when a set is about to be solved."""
    patched("quant.sequential:cells_of", noting(root.parent / "sets", _names))
    if call:
        patched("quant.sequential:cells_of", dying_at(call))
    wanted = assigned(FAMILY.spec(model), Choice(3, "awq"), Choice(2, "gptq"))
    in_sequence(root, wanted, opened(model))


def _names(_: Any, __: Any, observed: Any) -> list[str]:
    return list(observed.siblings.names)


def test_a_finalization_that_was_killed_goes_on_at_its_stage(
    model: Path, tmp_path: Path
) -> None:
    spec = FAMILY.spec(model)
    wanted = assigned(spec, Choice(3, "awq"), Choice(2, "gptq"))
    folder = tmp_path / "out" / wanted.digest
    for call in (6, 7):
        assert killed(_finalize, model, tmp_path / "out", call)
        assert not (folder / MANIFEST).exists()
    assert not killed(_finalize, model, tmp_path / "out", 0)
    found = in_sequence(tmp_path / "out", wanted, opened(model))
    whole = in_sequence(tmp_path / "whole", wanted, opened(model))
    assert found.sums == whole.sums
    assert found.changed_sums == whole.changed_sums
    # sets of a stage that was finished were solved once, others once for each kill
    times = Counter(map(tuple, noted(tmp_path / "sets")))
    assert 1 in times.values()
    stages = [stage for stage in opened(model)[0].stages() if stage.linears]
    first = [s.names for s in stages[0].siblings]
    assert [times[names] for names in first] == [1] * len(first)
    assert {f.name for f in folder.iterdir()} == {
        f.name for f in (tmp_path / "whole" / wanted.digest).iterdir()
    }


@pytest.mark.slow
def test_what_was_left_of_a_finalization_counts_only_if_it_is_whole(
    model: Path, tmp_path: Path
) -> None:
    wanted = assigned(FAMILY.spec(model), Choice(3, "awq"), Choice(2, "gptq"))
    folder = tmp_path / "out" / wanted.digest
    assert killed(_finalize, model, tmp_path / "out", 7)
    some = next(f for f in sorted(folder.glob("model*.safetensors")))
    content = bytearray(some.read_bytes())
    content[-1] ^= 1
    some.write_bytes(bytes(content))
    found = in_sequence(tmp_path / "out", wanted, opened(model))
    whole = in_sequence(tmp_path / "whole", wanted, opened(model))
    assert found.sums == whole.sums


def _spool(folder: Path) -> None:
    patched("os:posix_fallocate", dying_at(1))
    Spool(folder, "cpu", limit=0).append({"hidden": torch.zeros(2**16)})


def test_activations_of_a_process_that_was_killed_are_taken_away(
    model: Path, tmp_path: Path
) -> None:
    recipe = replace(recipe_of(), methods={"mine": Counted()})
    folder = tmp_path / recipe.digest
    folder.mkdir()
    assert killed(_spool, folder)
    assert drafts(folder)
    build(tmp_path, recipe, opened(model))
    assert drafts(folder) == []


def _export(out: Path, point: str, call: int) -> None:
    """Write an export, killed before it has its place."""
    patched(point, dying_at(call))
    with draft_of(out) as draft:
        (draft / "weights").write_text("new")
        os.fsync(os.open(draft, os.O_RDONLY))


@pytest.mark.parametrize(
    ("point", "call"),
    [("os:fsync", 1), ("pathlib:Path.rename", 1), ("pathlib:Path.rename", 2)],
)
def test_an_export_that_was_killed_leaves_what_was_there(
    tmp_path: Path, point: str, call: int
) -> None:
    out = tmp_path / "out"
    with draft_of(out) as draft:
        (draft / "plan.json").write_text("old")
    assert killed(_export, out, point, call)
    # at the second name what was there is aside, and nothing in its place
    assert out.exists() == (call == 1)
    assert drafts(tmp_path)
    with pytest.raises(SpecError, match=r"is not empty \(it has plan\.json\)"):
        check_place(out, force=False)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert (out / "plan.json").read_text() == "old"
    check_place(out, force=True)
    with draft_of(out) as draft:
        (draft / "plan.json").write_text("new")
    assert (out / "plan.json").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def _report(out: Path) -> None:
    patched("pathlib:Path.replace", dying_at(1))
    write_atomically(out, lambda: b"half")


def test_a_report_that_was_killed_leaves_no_draft_behind_the_next(
    tmp_path: Path,
) -> None:
    (tmp_path / ".part-of-mine").write_text("a file of the user's")
    assert killed(_report, tmp_path / "a.html")
    assert len(drafts(tmp_path)) == 2
    write_atomically(tmp_path / "b.html", lambda: b"whole")
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {".part-of-mine", "b.html"}


def _remember(cache: Path, file: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(cache)
    patched("allocator.bench.contents:SETTLED", lambda _: -1)
    patched("pathlib:Path.replace", dying_at(1))
    Contents().of([file], "pictures")


def test_digests_that_were_about_to_be_remembered_leave_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, file = tmp_path / "cache", tmp_path / "a.jpg"
    file.write_bytes(b"a")
    assert killed(_remember, cache, file)
    assert drafts(cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("allocator.bench.contents.SETTLED", -1)
    Contents().of([file], "pictures")
    assert drafts(cache) == []


def _hold(folder: Path) -> None:
    with draft_file(folder):
        die()


def test_the_draft_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with draft_file(tmp_path) as mine:
        assert killed(_hold, tmp_path)
        assert clear_drafts(tmp_path) == 1
        assert [each.name for each in tmp_path.iterdir()] == [mine.name]
    assert list(tmp_path.iterdir()) == []


def test_what_was_aside_never_replaces_what_has_its_place(tmp_path: Path) -> None:
    dead = tmp_path / f"{DRAFT}x{LOCKED}"
    (dead / OLD).mkdir(parents=True)
    for name in ("a", "b"):
        (dead / OLD / name).write_text("old")
    (tmp_path / "a").write_text("new")
    clear_drafts(tmp_path)
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {
        "a": "new",
        "b": "old",
    }
