from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.errors import StudyError
from allocator.space.model import ModelSpace
from allocator.study.journal import Journal
from allocator.study.unsent import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.core.spec import ModelSpec

PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells"}
# of a small disk: room for a database, for what is held ready, and not much more
BYTES = RESERVED + 2**20
VALUES = [float(at % 7) for at in range(200)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={BYTES}"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), (Choice(2, "awq"), Choice(16)), Budget(16))


@pytest.fixture(params=["sqlite:///{}/x.db", "{}/x.log"])
def url(request: pytest.FixtureRequest, disk: Path) -> str:
    return str(request.param).format(disk)


def fill(disk: Path) -> Path:
    """Leave no byte on a disk; returns the file that takes all of it."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as opened:
        for size in (4096, 1):
            try:
                while opened.write(bytes(size)):
                    pass
            except OSError:
                continue
    assert os.statvfs(disk).f_bavail == 0
    return file


def states(journal: Journal) -> list[str]:
    return [trial.state.name for trial in journal.study.trials]


@pytest.mark.parametrize("homes", ["elsewhere", "here"])
def test_a_full_disk_ends_a_search_that_goes_on_where_there_is_room(
    url: str,
    disk: Path,
    homes: str,
    space: ModelSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(disk if homes == "here" else tmp_path))
    journal = Journal.create(url, "first", "identity", {})
    number = journal.begin(space, space.smallest, PROPOSAL)
    filler = fill(disk)
    # more than what is left of the last page that is the storage's
    journal.set_attribute("long", ["of some length"] * 3000)
    journal.complete(number, 70.0, VALUES)
    with pytest.raises(StudyError) as refused:
        journal.entries(space)
    said = str(refused.value)
    assert f"storage {url!r} failed (" in said
    assert "make room on its disk; then the same command goes on" in said
    assert "1 score and 1 other result that could not be written are kept in" in said
    # without room it does not go on, and says why
    with pytest.raises(StudyError, match="make room on its disk"):
        Journal.create(url, "first", "identity", {})
    filler.unlink()
    again = Journal.create(url, "first", "identity", {})
    assert states(again) == ["COMPLETE"]
    assert list(again.sample_scores(space).values()) == [tuple(VALUES)]
    assert len(again.attribute("long")) == 3000


def test_a_line_that_found_no_room_is_not_there_in_half(
    disk: Path, space: ModelSpace
) -> None:
    file = disk / "x.log"
    Journal.create(str(file), "first", "identity", {}).set_attribute("a", 1)
    journal = Journal.load(str(file), "first")
    before = file.read_bytes()
    filler = fill(disk)
    with pytest.raises(StudyError, match=r"No space left on device\): make room"):
        journal.set_attribute("b", ["of some length"] * 3000)
    assert file.read_bytes() == before
    filler.unlink()
    journal.set_attribute("c", 3)
    found = Journal.load(str(file), "first")
    assert [found.attribute(name) for name in "abc"] == [1, None, 3]
    assert found.begin(space, space.smallest, PROPOSAL) == 0
