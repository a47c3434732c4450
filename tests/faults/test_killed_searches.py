"""SIGKILL of a search, wherever it is: the same command goes on, to the same end."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from allocator.core.drafts import DRAFT
from evals.world import files
from quant.streaming import SPOOLED
from tests.faults.killing import command, killed, noted
from tests.worlds import lend

if TYPE_CHECKING:
    from pathlib import Path

WORDS = (
    *("--budget", "3.8", "--task", "vqav2", "--model", "tiny-llava", "--json"),
    *("--methods", "uniform,gptq", "--widths", "2,3,4", "--trials", "4"),
)
# looks of one rung, at most
LARGEST_RUNG = 48
BENCH = "allocator.bench.workbench:Workbench"
# where it is killed: the function, and which call of it in the process
POINTS = {
    "a bank, its files half-written": ("quant.cells:save_file", 9),
    "a look": (f"{BENCH}.divergence", 30),
    "a trial": (f"{BENCH}.predictions", 5),
    "a finalization": ("quant.sequential:_Sequence._solve", 12),
    "a race on the evaluation set": ("allocator.search.evaluating:_more", 4),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the pictures: what is said of scores does not hang on how many."""
    parts = [
        part if part.name == "calibration" else replace(part, images=part.images // 10)
        for part in files.COCO
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "COCO", tuple(parts))
        return files.ensure_world(tmp_path_factory.mktemp("world"))


def study_of(home: Path) -> tuple[optuna.Study, dict[str, Any]]:
    found = json.loads((home / "out").read_text())
    return optuna.load_study(study_name=found["study"], storage=found["storage"]), found


def cells_in(home: Path) -> list[tuple[str, str]]:
    """Each cell as often as it was made."""
    return [(name, key) for own in noted(home / "cells") for name, key in own]


def exported_after_kills(home: Path, study: str) -> None:
    """An export that is killed as it writes, and as it takes an earlier one's place."""
    out = home / "exports" / "export"
    words = ("export", study, "--format", "plan", "--out", str(out), "--json")
    assert killed(command, str(home), words, "shutil:copyfile", 3)
    assert not killed(command, str(home), words, "", 0)
    before = {file.name for file in out.rglob("*")}
    assert "manifest.json" in before
    force = (*words, "--force")
    assert killed(command, str(home), force, "pathlib:Path.rename", 3)
    assert not out.exists()
    assert not killed(command, str(home), force, "", 0)
    assert {file.name for file in out.rglob("*")} == before
    assert [each.name for each in out.parent.iterdir()] == ["export"]


@pytest.mark.slow
@pytest.mark.nightly
def test_a_search_that_is_killed_everywhere_is_the_search_that_never_was(
    tmp_path: Path, world: Path
) -> None:
    homes = {name: tmp_path / name for name in ("whole", "killed")}
    for home in homes.values():
        lend(world, home / "cache")
    assert not killed(command, str(homes["whole"]), WORDS, "", 0)
    home = homes["killed"]
    for name, (point, call) in POINTS.items():
        assert killed(command, str(home), WORDS, point, call), name
    assert not killed(command, str(home), WORDS, "", 0)

    (study, found), (_, wanted) = study_of(home), study_of(homes["whole"])
    assert found["recommended"] == wanted["recommended"]
    assert found["finalists"] == wanted["finalists"]
    # no cell was made twice, and no allocation measured twice
    made = Counter(cells_in(home))
    assert set(made.values()) == {1}
    assert len(made) == len(cells_in(homes["whole"]))
    done = [t for t in study.trials if t.state.name == "COMPLETE"]
    assert set(Counter(json.dumps(t.params) for t in done).values()) == {1}
    assert not [t for t in study.trials if t.state.name == "RUNNING"]
    # nor a stage of a finalization finished twice
    stages = Counter(map(json.dumps, noted(home / "finalized")))
    assert set(stages.values()) == {1}
    # the looks of a rung that was under way are taken again, no score is
    assert len(noted(home / "scored")) == len(noted(homes["whole"] / "scored"))
    again = len(noted(home / "looked")) - len(noted(homes["whole"] / "looked"))
    assert again <= LARGEST_RUNG
    exported_after_kills(home, found["study"])
    left = [*home.rglob(f"{DRAFT}*"), *home.rglob(f"{SPOOLED}*")]
    assert left == []
    assert not list(home.rglob(".underway*"))
