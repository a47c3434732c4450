"""The main job on an embedded model: search, keep, resume, export, evaluate."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from evals.world import files
from tests.end_to_end.command import allocate, environment, run
from tests.worlds import lend

SEARCH = ("--task", "vqav2", "--model", "tiny-llava", "--methods", "uniform,gptq")
SMALL = ("--widths", "2,3,4", "--trials", "4")
COMMAND = (sys.executable, "-m", "allocator.cli")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fifth of the pictures: what is said of scores does not hang on how many."""
    parts = [
        part if part.name == "calibration" else replace(part, images=part.images // 5)
        for part in files.COCO
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "COCO", tuple(parts))
        return files.ensure_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    home = tmp_path_factory.mktemp("home")
    lend(world, home / "cache")
    return home


@pytest.fixture(scope="module")
def found(home: Path) -> dict[str, Any]:
    return allocate(home, "--budget", "3.8", *SEARCH, *SMALL)


def test_the_recommendation_keeps_the_budget(found: dict[str, Any]) -> None:
    assert found["recommended"]["bpw"] <= 3.8
    trials = dict(found["trials"])
    # many were looked at for each that was measured
    assert trials.pop("pruned") > 4 * 10
    assert trials == {"complete": 4, "failed": 0, "infeasible": 0}
    assert {(r["kind"], r["samples"]) for r in found["rungs"]} >= {("divergence", 32)}


def test_it_is_never_worse_than_a_uniform_allocation_that_fits(
    found: dict[str, Any],
) -> None:
    scores = [u["score"] for u in found["uniform"] if u["fits"]]
    assert scores
    assert None not in scores
    assert found["recommended"]["score"] >= max(scores)


def test_uniform_allocations_that_do_not_fit_have_no_score(
    found: dict[str, Any],
) -> None:
    assert len(found["uniform"]) == 3 * 2
    for each in found["uniform"]:
        assert each["fits"] == (each["bpw"] <= 3.8)
        assert (each["score"] is None) == (not each["fits"])


def test_it_is_never_worse_than_the_even_mix_and_the_additive_optimum(
    found: dict[str, Any],
) -> None:
    best = found["recommended"]
    names = [each["name"] for each in found["rivals"]]
    assert names[:2] == ["even_mix", "additive"]
    # and the best of those over single linears
    assert names[2].startswith("linear_")
    for each in found["rivals"]:
        assert each["fits"]
        assert each["bpw"] <= 3.8
        assert each["score"] <= best["score"]
    for each in found["rivals"][:2]:
        gain = best[f"vs_{each['name']}"]
        assert gain["difference"] == pytest.approx(best["score"] - each["score"])
        assert gain["difference"] >= 0
        assert gain["ci95"][0] <= gain["difference"] <= gain["ci95"][1]
    # the room that uniform allocations leave is used
    sizes = [each["bpw"] for each in found["uniform"] if each["fits"]]
    assert min(each["bpw"] for each in found["rivals"]) > max(sizes)


def test_the_front_rises(found: dict[str, Any]) -> None:
    points = [(member["bpw"], member["score"]) for member in found["front"]]
    assert points == sorted(points)
    assert len({score for _, score in points}) == len(points)


def test_importance_adds_up_to_a_hundred(found: dict[str, Any]) -> None:
    for shares in (found["importance"]["component"], found["importance"]["group"]):
        total = sum(share["consensus"] for share in shares.values())
        assert total == pytest.approx(100) or total == 0


def test_the_same_request_measures_nothing_again(
    home: Path, found: dict[str, Any]
) -> None:
    again = allocate(home, "--budget", "3.80", *SEARCH, *SMALL)
    assert again["evaluated_samples"] == 0
    assert again["recommended"] == found["recommended"]


def test_the_exported_plan_scores_what_was_recommended(
    home: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    where = ("--format", "plan", "--out", str(tmp_path))
    done = run(home, "export", found["study"], *where)
    plan = Path(done.stdout.strip())
    groups = json.loads(plan.read_text())["groups"]
    assert groups == found["recommended"]["allocation"]
    scored = allocate(home, "evaluate", "--task", "vqav2", "--plan", str(plan))
    assert scored["score"] == pytest.approx(found["recommended"]["score"])
    assert scored["applied"] == found["recommended"]["applied"]


def test_the_study_is_listed_shown_and_explained(
    home: Path, found: dict[str, Any]
) -> None:
    assert allocate(home, "studies", "list") == [found["study"]]
    shown = allocate(home, "studies", "show", found["study"])
    assert shown["recommended"] == found["recommended"]
    printed = run(home, "studies", "show", found["study"]).stdout
    assert "over the even mix" in printed
    assert "over the additive optimum" in printed
    assert "First prompt: '<s> user :[<image> x 16]" in printed
    explained = allocate(home, "explain", found["study"])
    shares = found["importance"]["component"]
    for name, share in explained["importance"]["component"].items():
        # the same forest; more effort goes into what stands beside it
        assert share["consensus"] == pytest.approx(shares[name]["consensus"])
    assert explained["allocation"]["digest"] == found["recommended"]["digest"]


def test_another_budget_is_estimated_first_and_reuses_what_was_measured(
    home: Path, found: dict[str, Any]
) -> None:
    done = run(home, "--budget", "3.6", *SEARCH, *SMALL[:2], "--trials", "1", "--json")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    # five baselines and four proposals
    assert lines[0].startswith("estimate: about ")
    assert f"from 9 measured and {found['trials']['pruned']} looked at" in lines[0]
    assert not [line for line in lines if line.startswith(("bank", "baselines"))]
    other = json.loads(done.stdout)
    assert other["study"] == found["study"]
    assert other["recommended"]["bpw"] <= 3.6
    assert other["recommended"]["score"] <= found["recommended"]["score"]


def test_a_score_that_nothing_keeps_ends_with_exit_code_three(home: Path) -> None:
    # at two bits nothing comes near full precision
    words = ("--min-score", "1", *SEARCH, "--widths", "2", "--trials", "1")
    done = run(home, *words, "--no-finalize")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "allocate: nothing kept 100 % of full precision's" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_study_name_never_mixes_two_models(
    home: Path, found: dict[str, Any]
) -> None:
    other = ("--widths", "2,4", "--study", found["study"])
    done = run(home, "--budget", "3.8", *SEARCH, *other)
    assert done.returncode == 2
    assert "measures widths" in done.stderr


@pytest.mark.slow
@pytest.mark.nightly
def test_two_empty_homes_give_one_recommendation(
    tmp_path: Path, world: Path, found: dict[str, Any]
) -> None:
    lend(world, tmp_path / "cache")
    other = allocate(tmp_path, "--budget", "3.8", *SEARCH, *SMALL)
    assert other["recommended"] == found["recommended"]


# in a namespace of its own, under a host name of its own: a container
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")


def has_containers() -> bool:
    try:
        return subprocess.run((*CONTAINER, "true"), check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("contained", [False, True])
def test_a_killed_search_goes_on_without_repeating_a_trial(
    tmp_path: Path, world: Path, found: dict[str, Any], contained: bool
) -> None:
    if contained and not has_containers():
        pytest.skip("namespaces cannot be made here")
    whole = found
    lend(world, tmp_path / "cache")
    words = [*COMMAND, "--budget", "3.8", *SEARCH, *SMALL]
    storage = f"sqlite:///{tmp_path / 'data/allocate/studies.db'}"
    # five baselines are measured first: full precision, two uniform ones, two rivals
    for complete in (2, 4, 7):
        host = ("sh", "-c", f'hostname c{complete}; exec "$@"', "sh")
        process = subprocess.Popen(
            (*CONTAINER, *host, *words) if contained else words,
            env=environment(tmp_path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while _complete(storage) < complete and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = allocate(tmp_path, "--budget", "3.8", *SEARCH, *SMALL)
    study = optuna.load_study(study_name=found["study"], storage=storage)
    done = [t for t in study.trials if t.state.name == "COMPLETE"]
    counts = Counter(json.dumps(t.params, sort_keys=True) for t in done)
    assert set(counts.values()) == {1}
    assert found["trials"]["complete"] == 4
    # in a container others go first while it is not known who is dead
    assert contained or found["recommended"] == whole["recommended"]
    assert not [t for t in study.trials if t.state.name == "RUNNING"]


def _complete(storage: str) -> int:
    try:
        names = optuna.get_all_study_names(storage)
        studies = [optuna.load_study(study_name=n, storage=storage) for n in names]
    except Exception:  # the database is still being made
        return 0
    trials = [trial for study in studies for trial in study.trials]
    return sum(trial.state.name == "COMPLETE" for trial in trials)
