"""From a search to checkpoints, as the command writes them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.command import allocate, run
from tests.worlds import lend

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("compressed_tensors") is None,
        reason="compressed-tensors is not installed",
    ),
]
SEARCH = (
    *("--budget", "4.5", "--task", "vqav2", "--model", "tiny-llava", "--trials", "1"),
    *("--no-rungs", "--methods", "uniform,awq", "--widths", "3,4,8", "--study", "s"),
    *("--granularity", "component", "--calibration", "16"),
)
FORMAT = ("--format", "compressed-tensors")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Path:
    home = tmp_path_factory.mktemp("home")
    lend(drawn_world, home / "cache")
    return home


@pytest.fixture(scope="module")
def found(home: Path) -> dict[str, Any]:
    told: dict[str, Any] = allocate(home, *SEARCH)
    return told


def refused(home: Path, *words: str) -> str:
    done = run(home, *words)
    assert done.returncode == 2
    return done.stderr


def test_beyond_the_budget_it_is_refused_and_forced(
    home: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    # three bits in words of 32 with gaps are more than the search has counted
    said = refused(home, "export", "s", *FORMAT, "--out", str(tmp_path / "out"))
    assert "search again with --target transformers" in said
    assert list(tmp_path.iterdir()) == []
    told = allocate(
        home, "export", "s", *FORMAT, "--out", str(tmp_path / "out"), "--force"
    )
    assert told["over_budget"] > 0
    assert told["weights"] == 0
    assert told["logits"] < 1e-5
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{found['recommended']['score']:.2f} (95 % interval" in card
    assert "allocate export s --format compressed-tensors" in card


def test_a_trial_is_written_by_the_cells_of_the_bank(
    home: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    out = ("--out", str(tmp_path / "out"), "--force")
    told = allocate(home, "export", "s", "--trial", "1", *FORMAT, *out)
    assert told["measured"] < 2e-3
    card = (tmp_path / "out" / "README.md").read_text()
    assert "on the search set, not confirmed" in card
    said = refused(home, "export", "s", "--trial", "99", *FORMAT, *out)
    assert "has no measured trial 99" in said
    assert found["study"] == "s"


def test_a_plan_file_is_exported_with_its_weights_and_without(
    home: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    plan = tmp_path / "plan"
    run(home, "export", "s", "--format", "plan", "--out", str(plan))
    file = plan / "plan.json"
    read = json.loads(file.read_text())
    assert read["finalized"] == found["recommended"]["finalized"]
    words = ("export", "--plan", str(file), *FORMAT, "--force")
    whole = allocate(home, *words, "--out", str(tmp_path / "whole"))
    assert "measured" not in whole
    file.write_text(json.dumps({**read, "finalized": None}))
    bank = allocate(home, *words, "--out", str(tmp_path / "bank"))
    assert bank["measured"] < 2e-3
    assert bank["bytes"] == whole["bytes"]
