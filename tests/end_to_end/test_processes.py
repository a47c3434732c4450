"""Searches in several processes measure what one alone does, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from evals.world import files
from tests.end_to_end.command import run
from tests.end_to_end.hands import search, trials
from tests.worlds import lend

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

STUDY = ("--study", "s", "--budget", "5", "--task", "vqav2", "--model", "tiny-llava")
SMALL = ("--methods", "uniform", "--widths", "3,4,8", "--trials", "2", "--json")
SEARCH = (*STUDY, *SMALL, "--calibration", "8", "--no-tune", "--no-refine")
ON_CPU = (*SEARCH, "--devices", "cpu,cpu")
RAY = ("--engine", "ray")
# cores, as Ray is told; one of the three is where the command itself sits
ROOM = {"RAY_OVERRIDE_RESOURCES": '{"CPU": 3}', "OMP_NUM_THREADS": "1"}
# what a search says of itself, and not of what it measured
ITS_OWN = ("storage", "cost", "seconds", "prefix")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = [
        part if part.name == "calibration" else replace(part, images=part.images // 20)
        for part in files.COCO
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "COCO", tuple(parts))
        return files.ensure_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def home(tmp_path: Path, world: Path) -> Path:
    lend(world, tmp_path / "cache")
    return tmp_path


@pytest.fixture(scope="module")
def alone(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a search in one process."""
    home = tmp_path_factory.mktemp("alone")
    lend(world, home / "cache")
    done = run(home, *SEARCH)
    assert done.returncode == 0, done.stderr
    (home / "found.json").write_text(done.stdout)
    return home


def need_ray() -> None:
    if not os.environ.get("ALLOCATE_NEEDS_RAY"):
        pytest.importorskip("ray", reason="the extra [ray] is not installed")


def completed(home: Path) -> list[Any]:
    """What was measured, without what a killed process was at when it died."""
    return [each[2:] for each in trials(home, "s") if each[1] == "COMPLETE"]


def found(text: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(text)
    return {name: read[name] for name in read if name not in ITS_OWN}


def test_ray_measures_the_same_though_an_actor_is_killed(
    home: Path, alone: Path
) -> None:
    need_ray()
    helped = search(home, 2, *SEARCH, *RAY, **ROOM)
    os.kill(helped.hands(2)[0], signal.SIGKILL)
    done = helped.wait()
    assert done.returncode == 0, done.stderr
    assert found(done.stdout) == found((alone / "found.json").read_text())
    assert trials(home, "s") == trials(alone, "s")
    assert "is gone: what it was at is done by others" in done.stderr
    # nothing of Ray's own comes through
    assert "raylet" not in done.stderr
    helped.await_all()


def test_devices_measure_the_same_though_a_worker_is_killed(
    home: Path, alone: Path
) -> None:
    helped = search(home, 1, *ON_CPU)
    os.kill(helped.hands(1)[0], signal.SIGKILL)
    done = helped.wait()
    assert done.returncode == 0, done.stderr
    assert found(done.stdout) == found((alone / "found.json").read_text())
    assert trials(home, "s") == trials(alone, "s")
    assert "worker 2 on cpu ended by SIGKILL: another is started" in done.stderr
    helped.await_all()


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("words", [("--devices", "cpu,cpu"), RAY], ids=str)
def test_an_interrupted_search_ends_what_it_started(
    home: Path, words: tuple[str, ...], times: int
) -> None:
    if words == RAY:
        need_ray()
    helped = search(home, 1, *SEARCH, *words, **ROOM)
    helped.hands(1)
    pid = helped.process.pid
    assert pid is not None
    for _ in range(times):
        os.kill(pid, signal.SIGINT)
    done = helped.wait()
    assert done.returncode == 130
    assert "everything finished is kept" in done.stderr
    helped.await_all()


def test_a_worker_follows_its_leader_and_then_ends(home: Path, alone: Path) -> None:
    helped = search(home, 1, *ON_CPU)
    helped.hands(1)
    assert helped.kill()
    helped.await_all()
    assert completed(home) == completed(alone)
