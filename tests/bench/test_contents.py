from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from allocator.bench import contents
from allocator.bench.contents import Contents, forget
from allocator.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.core.watch import Tell


class Noted:
    """A watch that notes how many files were read in each phase."""

    def __init__(self) -> None:
        self.read: list[int] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        assert name == "pictures"
        self.read.append(0)

        def tell(done: int, total: int, note: str = "", /) -> None:
            del total, note
            self.read[-1] = done

        yield tell

    def say(self, text: str) -> None:
        raise AssertionError(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, in which files count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "SETTLED", -(10**18))
    return tmp_path / "cache" / "allocate"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = []
    for name in ("one", "two", "three"):
        found.append(tmp_path / f"{name}.jpg")
        found[-1].write_bytes(name.encode())
    return found


def learned(files: list[Path]) -> tuple[list[str], int]:
    """Digests as a process of its own would get them, and how many files it read."""
    watch = Noted()
    found = Contents(watch).of(files, "pictures")
    return [found[file] for file in files], sum(watch.read)


def test_a_digest_is_of_the_bytes_alone(files: list[Path], tmp_path: Path) -> None:
    wanted = hashlib.sha256(b"one").hexdigest()[:32]
    assert learned(files)[0][0] == wanted
    (tmp_path / "elsewhere").mkdir()
    copied = shutil.copy(files[0], tmp_path / "elsewhere" / "other.png")
    (tmp_path / "link.jpg").symlink_to(files[0])
    os.utime(files[0])
    everywhere = [files[0], tmp_path / "elsewhere" / copied.name, tmp_path / "link.jpg"]
    assert learned(everywhere)[0] == [wanted] * 3


def test_each_file_is_read_once_whatever_it_is_called(
    files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "same.jpg").hardlink_to(files[0])
    (tmp_path / "link.jpg").symlink_to(files[0])
    names = [*files, *files, tmp_path / "same.jpg", tmp_path / "link.jpg"]
    first, read = learned(names)
    assert read == 3
    assert learned(names) == (first, 0)
    files[0].rename(tmp_path / "moved.jpg")
    # renaming changes the time of change
    assert learned([tmp_path / "moved.jpg", *files[1:]]) == (first[:3], 1)


@pytest.mark.parametrize("in_place", [False, True])
def test_other_bytes_of_the_same_number_are_noticed_whatever_the_date_says(
    files: list[Path], in_place: bool
) -> None:
    before, found = learned(files)[0], files[0].stat()
    if not in_place:
        files[0].unlink()
    files[0].write_bytes(b"eno")
    os.utime(files[0], ns=(found.st_atime_ns, found.st_mtime_ns))
    after, read = learned(files)
    assert read == 1
    assert (after[0] != before[0], after[1:]) == (True, before[1:])


def test_a_change_within_a_run_is_noticed(files: list[Path]) -> None:
    one = Contents()
    before = dict(one.of(files, "pictures"))
    files[0].write_bytes(b"eno")
    after = one.of(files, "pictures")
    assert [file for file in files if after[file] != before[file]] == [files[0]]


def test_a_file_that_has_just_changed_is_not_remembered(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # it may change again before the clock of its file system ticks
    monkeypatch.setattr(contents, "SETTLED", 10**12)
    assert learned(files)[1] == 3
    assert learned(files)[1] == 3
    later = files[0].stat().st_ctime_ns + 10**12 + 10**9
    monkeypatch.setattr(contents.time, "time_ns", lambda: later)
    assert learned(files)[1] == 3
    assert learned(files)[1] == 0


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest

    def changing(opened: object, kind: str) -> object:
        files[1].write_bytes(b"owt")
        return digest(opened, kind)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(contents.hashlib, "file_digest", changing)
        learned(files[:2])
    assert learned(files[:2]) == (
        [hashlib.sha256(word).hexdigest()[:32] for word in (b"one", b"owt")],
        1,
    )


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "folder"])
def test_a_damaged_memory_is_made_anew(
    damage: str, files: list[Path], cache: Path
) -> None:
    wanted, memory = learned(files)[0], cache / "contents"
    held = memory.read_bytes()
    assert learned(files)[1] == 0
    memory.unlink()
    if damage == "folder":
        memory.mkdir()
    else:
        # the last byte but one belongs to a digest
        flipped = held[:-2] + (b"0" if held[-2:-1] != b"0" else b"1") + held[-1:]
        broken = {"cut": held[:-9], "flipped": flipped, "empty": b"", "text": b"\xff\n"}
        memory.write_bytes(broken[damage])
    assert learned(files) == (wanted, 3)
    assert learned(files) == (wanted, 3 if damage == "folder" else 0)


def test_processes_at_once_remember_what_all_of_them_read(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jpg" for number in range(40)]
    for file in files:
        file.write_text(file.name)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda at: learned(files[at::8])[1], range(8)))
    assert read == [5] * 8
    assert learned(files)[1] == 0


def test_the_oldest_are_forgotten_beyond_a_number(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "MOST", 2)
    for file in files:
        learned([file])
    assert [learned([file])[1] for file in files[1:]] == [0, 0]
    assert learned(files[:1])[1] == 1


def test_nothing_is_remembered_after_forgetting(files: list[Path]) -> None:
    forget()
    learned(files)
    forget()
    assert learned(files)[1] == 3


def test_what_cannot_be_written_is_read_again(files: list[Path], cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    wanted = learned(files)
    assert wanted[1] == 3
    assert learned(files) == wanted


def test_a_run_that_is_stopped_goes_on_there(files: list[Path]) -> None:
    class Stopping(Noted):
        @contextmanager
        def phase(self, name: str) -> Iterator[Tell]:
            def tell(done: int, total: int, note: str = "", /) -> None:
                del total, note
                if done == 2:
                    raise KeyboardInterrupt

            del name
            yield tell

    with pytest.raises(KeyboardInterrupt):
        Contents(Stopping()).of(files, "pictures")
    assert learned(files)[1] == 1


def test_a_file_that_is_not_there_is_named(files: list[Path], tmp_path: Path) -> None:
    files[1].unlink()
    for missing in (files[1], tmp_path):
        with pytest.raises(DataError, match=rf"{missing} cannot be read: \w"):
            learned([files[0], missing])
