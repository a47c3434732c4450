from __future__ import annotations

import os
from pathlib import Path

import pytest

from allocator.core.errors import StudyError
from allocator.study.journal import Journal
from allocator.study.log_file import LogFile
from allocator.study.storage import open_storage


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.log"


@pytest.fixture
def journal(file: Path) -> Journal:
    made = Journal.create(str(file), "first", "identity", {})
    made.set_attribute("a", 1)
    return made


@pytest.mark.parametrize("torn", [b'{"op_code":3,"work', b"\0" * 300])
@pytest.mark.parametrize("again", [False, True])
def test_half_a_line_of_a_killed_process_is_written_over(
    file: Path, journal: Journal, torn: bytes, again: bool
) -> None:
    with file.open("ab") as opened:
        opened.write(torn)
    other = Journal.load(str(file), "first") if again else journal
    other.set_attribute("b", 2)
    other.set_attribute("c", 3)
    found = Journal.load(str(file), "first")
    assert [found.attribute(name) for name in "abc"] == [1, 2, 3]


def test_a_long_half_line_is_found_whole(file: Path, journal: Journal) -> None:
    with file.open("ab") as opened:
        opened.write(b'{"op_code":' + b"9" * 200_000)
    journal.set_attribute("b", 2)
    journal.set_attribute("c", 3)
    assert Journal.load(str(file), "first").attribute("c") == 3
    assert file.stat().st_size < 100_000


def test_a_damaged_line_among_others_is_refused(file: Path, journal: Journal) -> None:
    del journal
    with file.open("ab") as opened:
        opened.write(b'{"op_code":nonsense\n{"op_code":nonsense\n')
    with pytest.raises(StudyError, match="one of its lines is damaged"):
        Journal.load(str(file), "first")


@pytest.mark.parametrize("text", ["a line of text\n", '{"a": 1}', "[1]\n[2]\n"])
def test_a_file_of_another_kind_is_refused_and_left_as_it_was(
    file: Path, text: str
) -> None:
    file.write_text(text)
    with pytest.raises(StudyError, match="it holds something other than studies"):
        open_storage(str(file))
    assert file.read_text() == text


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_goes_while_it_is_used_is_refused(
    file: Path, journal: Journal, replaced: bool
) -> None:
    journal = Journal.load(journal.url, "first", 0.1)
    new = file.with_suffix(".new")
    new.write_text("")
    file.unlink()
    if replaced:
        new.rename(file)
    for call in (lambda: journal.attribute("a"), lambda: journal.set_attribute("a", 2)):
        with pytest.raises(StudyError, match="was removed or replaced while it was in"):
            call()


def test_the_lock_of_a_file_in_another_folder_points_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    backend = LogFile(Path("sub/studies.log"))
    backend._lock.acquire()
    # whoever waits for it looks through the link, and would look for ever
    assert os.path.samefile("sub/studies.log.lock", "sub/studies.log")
    backend._lock.release()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    with pytest.raises(StudyError, match="it is a folder"):
        open_storage(f"{tmp_path}/folder.log")
