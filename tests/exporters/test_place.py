"""Where an export is written: what is in the way, and what makes room."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import SpecError
from allocator.exporters._place import MARK, check_place, check_room, draft_of

if TYPE_CHECKING:
    from pathlib import Path


def refused(out: Path, *, force: bool = False) -> str:
    with pytest.raises(SpecError) as caught:
        check_place(out, force=force)
    assert "\n" not in str(caught.value)
    assert str(out) in str(caught.value)
    return str(caught.value)


def earlier(out: Path) -> Path:
    """An export that is there."""
    out.mkdir()
    (out / "README.md").write_text(f"# mine\n\n{MARK}\n")
    (out / "model.safetensors").write_text("old")
    return out


def test_a_new_folder_and_an_empty_one_are_written_to(tmp_path: Path) -> None:
    check_place(tmp_path / "new" / "er", force=False)
    (tmp_path / "empty").mkdir()
    check_place(tmp_path / "empty", force=False)


def test_a_file_is_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        for force in (False, True):
            with pytest.raises(SpecError, match="file is in the way"):
                check_place(out, force=force)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_there_is_not_touched_without_force(tmp_path: Path) -> None:
    out = earlier(tmp_path / "out")
    assert "it has README.md" in refused(out)
    assert "--force" in refused(out)
    check_place(out, force=True)


def test_force_replaces_exports_and_nothing_else(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert "no export wrote it" in refused(mine, force=True)
    (mine / "README.md").write_text("# My thesis, made with allocate export\n")
    assert "no export wrote it" in refused(mine, force=True)
    (mine / "plan.json").write_text("{}")
    assert "no export wrote it" in refused(mine, force=True)


def test_a_plan_that_was_exported_without_a_card_is_an_export(tmp_path: Path) -> None:
    (tmp_path / "out" / "finalized").mkdir(parents=True)
    (tmp_path / "out" / "plan.json").write_text("{}")
    check_place(tmp_path / "out", force=True)


def test_the_folder_one_is_in_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (tmp_path / "here", tmp_path):
        assert "the folder you are in" in refused(out, force=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    assert "may not be written to" in refused(closed / "out")


def test_too_little_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(folder: Any) -> Any:
        assert folder == tmp_path
        return shutil._ntuple_diskusage(10**12, 10**12, 10**9)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check_room(tmp_path / "new" / "out", 9 * 10**8)
    with pytest.raises(SpecError, match=r"takes 2\.00 GB and .* has 1\.00 GB free"):
        check_room(tmp_path / "new" / "out", 2 * 10**9)


def test_a_draft_takes_its_place_at_the_end(tmp_path: Path) -> None:
    out = earlier(tmp_path / "out")
    with draft_of(out) as draft:
        (draft / "config.json").write_text("new")
        assert draft.parent.parent == tmp_path
        assert (out / "model.safetensors").read_text() == "old"
    assert [file.name for file in out.iterdir()] == ["config.json"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_what_was_there_comes_back_where_the_last_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = earlier(tmp_path / "out")
    rename = type(out).rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(type(out), "rename", failing)
    with pytest.raises(SpecError, match="Device or resource busy"), draft_of(out):
        pass
    assert (out / "model.safetensors").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
