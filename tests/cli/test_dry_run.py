"""What a search would cost is said without searching; what cannot fit is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from allocator.bench import measuring
from allocator.bench.measuring import Measured
from allocator.cli.search import main
from allocator.core.home import data_home
from allocator.core.unit_costs import Lengths, Unit, UnitCosts
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

SEARCH = ("--budget", "4.0", "--task", "vqav2", "--dry-run")


@pytest.fixture(autouse=True)
def own(
    tmp_path: Path, drawn_world: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    unit = Unit(1e-3, measured=True)
    units = UnitCosts(
        *(unit,) * 7,
        solve=dict.fromkeys(("uniform", "gptq", "awq"), unit),
        finalize=unit,
        tune=unit,
    )
    lengths = Lengths(17, 12, 29, 9, 2)
    found = Measured(units, lengths, False, 1.0, 1e3, 1e3, 2.0)
    monkeypatch.setattr(measuring, "measure", lambda *_: found)
    with homes(tmp_path, drawn_world):
        yield


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    done = run(*SEARCH, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    parts = {part["name"]: part for part in found["parts"]}
    # three uniform allocations fit, by each method at 3 bits: 1,000 search questions
    assert parts["baselines"]["scored"] == 3_000
    assert parts["search"]["proposals"] == 20
    # uniform, gptq and awq of all weights
    assert set(found["total"]["solved"].values()) == {344_064}
    assert found["seconds"]["total"] > 0
    assert not (data_home() / "finalized").exists()
    # no study was begun: a second look sees the same
    again = json.loads(run(*SEARCH, "--json").stdout)
    assert again["parts"] == found["parts"]


@pytest.mark.parametrize(
    "goal", [("--front",), ("--min-score", "0.98"), ("--budget", "4.5")]
)
def test_every_goal_can_be_looked_at_beforehand(goal: tuple[str, ...]) -> None:
    done = run(*goal, "--task", "vqav2", "--dry-run", "--no-tune")
    assert done.exit_code == 0, done.output
    assert "to do: " in done.stdout
    assert "time: about " in done.stdout


def test_a_full_disk_is_told_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    few = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: few)
    done = run(*SEARCH)
    assert done.exit_code == 2
    assert "and " in done.stderr
    assert "free" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6


def test_other_commands_have_no_dry_run_of_a_search() -> None:
    done = run("--dry-run", "doctor")
    assert done.exit_code == 2
    assert "(dry_run) belong to a search" in " ".join(done.stderr.split())
