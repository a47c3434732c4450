"""Checksums of an export, written and held against its files."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from allocator.bench.contents import Contents
from allocator.bench.sums import SUMS, check_sums, write_sums
from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tmp_path / "made"
    (made / "below").mkdir(parents=True)
    (made / "config.json").write_text("abc")
    (made / "below" / "x.jinja").write_text("")
    write_sums(made)
    return made


def check(folder: Path, *more: str) -> None:
    names = ("config.json", "below/x.jinja", *more)
    check_sums(folder, [folder / name for name in names], Contents())


def test_they_are_what_sha256sum_reads(folder: Path) -> None:
    # the digests of nothing and of "abc": FIPS 180-2, appendix B.1
    assert (folder / SUMS).read_text() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  "
        "below/x.jinja\n"
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  "
        "config.json\n"
    )
    if tool := shutil.which("sha256sum"):
        done = subprocess.run([tool, "-c", SUMS], cwd=folder, capture_output=True)
        assert done.returncode == 0


def test_files_as_they_were_pass_and_so_does_a_folder_without_sums(
    folder: Path,
) -> None:
    check(folder)
    (folder / "config.json").write_text("changed")
    (folder / SUMS).unlink()
    check(folder)


def test_a_file_that_changed_is_gone_or_is_new_is_named(folder: Path) -> None:
    (folder / "new.json").write_text("{}")
    with pytest.raises(ModelError, match=r"new\.json is not among the files in SHA256"):
        check(folder, "new.json")
    # of the same size
    (folder / "config.json").write_text("abx")
    with pytest.raises(ModelError, match=r"config\.json is not what SHA256SUMS says"):
        check(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"lacks config\.json, which SHA256SUMS lists"):
        check_sums(folder, [], Contents())


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\xfe"])
def test_what_is_no_list_of_sums_is_an_error(folder: Path, content: bytes) -> None:
    (folder / SUMS).write_bytes(content)
    with pytest.raises(ModelError, match="SHA256SUMS"):
        check(folder)
