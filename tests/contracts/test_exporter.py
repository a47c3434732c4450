"""What every export format must do, found without being listed."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import AllocateError
from allocator.core.plan import plan_json
from allocator.core.plugins import available, load
from allocator.core.study import StudySpec

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Exporter
    from allocator.core.spec import ModelSpec

EACH = pytest.mark.parametrize("name", available("allocator.exporters"))


def exporter(name: str) -> Exporter:
    found: Exporter = load("allocator.exporters", name)
    return found


@pytest.fixture
def plan(toy: ModelSpec) -> dict[str, Any]:
    """Three widths, two methods, one group at 16 bits; from the bank's cells."""
    picks = (Choice(2, "gptq"), Choice(4, "awq"), Choice(8, "gptq"), Choice(16))
    chosen = {key: picks[at % len(picks)] for at, key in enumerate(toy.keys)}
    allocation = Allocation.of(toy.keys, chosen)
    return plan_json(StudySpec("4.0", "vqav2"), toy, allocation)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


@EACH
def test_it_says_what_it_writes(name: str) -> None:
    told = exporter(name).description
    assert told
    assert "\n" not in told


@EACH
def test_what_it_returns_is_there_and_within_the_folder(
    name: str, plan: dict[str, Any], tmp_path: Path
) -> None:
    before = deepcopy(plan)
    written = exporter(name).write(plan, tmp_path / "new" / "out")
    assert written.exists()
    assert written.is_relative_to(tmp_path / "new" / "out")
    assert contents(tmp_path / "new" / "out")
    # the plan belongs to the study
    assert plan == before


@EACH
def test_written_twice_it_is_the_same_and_nothing_is_left_over(
    name: str, plan: dict[str, Any], tmp_path: Path
) -> None:
    exporter(name).write(plan, tmp_path / "out")
    once = contents(tmp_path / "out")
    exporter(name).write(plan, tmp_path / "out")
    assert contents(tmp_path / "out") == once


@EACH
def test_another_plan_is_another_export(
    name: str, plan: dict[str, Any], tmp_path: Path, toy: ModelSpec
) -> None:
    exporter(name).write(plan, tmp_path / "one")
    other = plan_json(
        StudySpec("4.0", "vqav2"), toy, Allocation.uniform(toy, Choice(4, "gptq"))
    )
    exporter(name).write(other, tmp_path / "other")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


@EACH
def test_a_folder_that_cannot_be_is_refused_in_a_sentence(
    name: str, plan: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AllocateError) as caught:
        exporter(name).write(plan, tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
