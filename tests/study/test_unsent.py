from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.space.model import ModelSpace
from allocator.study.journal import Journal
from allocator.study.unsent import RESERVED, Unsent
from tests.study.outages import away

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec

PROPOSAL = {"kind": "proposal", "budget": "4", "applied": "cells"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "allocate" / "unsent"


def test_a_piece_of_the_same_key_takes_the_place_of_the_one_before() -> None:
    kept = Unsent.of("x", "a place", "a")
    for value in (1, 2):
        # what the study had before the first is what it still has
        kept.keep({"key": "a", "value": value, "before": f"before {value}"})
    kept.keep({"key": "b", "value": 3})
    assert [(p["key"], p["value"], p["before"]) for p in kept.read()] == [
        ("a", 2, "before 1"),
        ("b", 3, None),
    ]
    kept.drop("a")
    kept.drop("b")
    assert not kept.file.exists()


def test_studies_storages_and_measurements_have_files_of_their_own() -> None:
    given = [("x", "a", "1"), ("y", "a", "1"), ("x", "b", "1"), ("x", "a", "2")]
    assert len({Unsent.of(*each).file for each in given}) == 4


def test_room_is_held_ready_once(home: Path) -> None:
    for name in "xy":
        Unsent.of(name, "a place", "a").reserve()
    assert [each.stat().st_size for each in home.iterdir()] == [RESERVED]


def test_searches_that_start_together_hand_in_once(
    toy: ModelSpec, tmp_path: Path, home: Path
) -> None:
    space = ModelSpace(toy, Scheme(), (Choice(2, "awq"), Choice(16)), Budget(16))
    folder = tmp_path / "storage"
    folder.mkdir()
    url = f"sqlite:///{folder}/x.db"
    journal = Journal.create(url, "first", "identity", {}, 0.1)
    number = journal.begin(space, space.smallest, PROPOSAL)
    assert number is not None
    with away(folder):
        journal.complete(number, 70.0)
    # given up, so that it has to be recorded anew
    Journal.load(url, "first").fail(number)
    assert len(list(home.glob("*.json"))) == 1
    together = [
        threading.Thread(target=Journal.create, args=(url, "first", "identity", {}))
        for _ in range(4)
    ]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    states = [t.state.name for t in Journal.load(url, "first").study.trials]
    assert states == ["FAIL", "COMPLETE"]
    assert list(home.glob("*.json")) == []
