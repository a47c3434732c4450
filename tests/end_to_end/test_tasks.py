"""Tasks of the drawn world from their official layouts, through the command line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from allocator.cli.search import main
from allocator.embedded import HERE
from tests.evals.data_folders import (
    write_coco,
    write_flickr30k,
    write_gqa,
    write_karpathy,
    write_vqav2,
)
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# those that the drawn world has, too; the others are in test_benchmarks.py
TASKS = ("coco", "flickr30k", "gqa", "vqav2")
FAST = ("--methods", "uniform", "--widths", "4", "--trials", "1", "--budget", "8")


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with the official files of all four tasks."""
    folder = tmp_path_factory.mktemp("data")
    write_vqav2(folder, {"train2014": range(1, 5), "val2014": range(101, 131)})
    parts = {"train": range(1, 5), "val": range(101, 105), "test": range(106, 109)}
    write_karpathy(folder, {**parts, "restval": range(201, 203)})
    write_coco(folder, {"train2017": range(1, 140), "val2017": range(301, 304)})
    of_gqa = {"train": range(1, 5), "val": range(11, 15), "testdev": range(21, 25)}
    write_gqa(folder / "gqa", of_gqa)
    write_flickr30k(folder / "flickr30k", parts)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own model folder: it brings no data."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    shutil.copytree(HERE / "tiny-blip2", folder)
    return folder


def run(*words: str) -> Any:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    said = done.stderr.strip().splitlines()
    # lines before may say what is searched, and on how little
    assert len(said) <= 3
    assert "Traceback" not in done.stderr
    return said[-1]


@pytest.mark.parametrize("task", TASKS)
def test_a_model_is_scored_from_the_official_files(
    task: str, model: Path, data: Path
) -> None:
    found = run(
        *("evaluate", "--model", str(model), "--task", task, "--data", str(data))
    )
    assert found["task"] == task
    assert found["samples"] == len(found["values"]) > 0
    low, high = found["ci95"]
    assert low <= found["score"] <= high
    values = [each["value"] for each in found["values"]]
    assert found["score"] == pytest.approx(sum(values) / len(values))


# replies and rankings; the others' searches differ from one of these in their files
SEARCHED = ("vqav2", "flickr30k")
LATER = (pytest.mark.slow, pytest.mark.nightly)


@pytest.mark.parametrize(
    "task", [t if t in SEARCHED else pytest.param(t, marks=LATER) for t in TASKS]
)
def test_an_allocation_is_searched_with_the_official_files(
    task: str, model: Path, drawn_world: Path
) -> None:
    words = ("--model", str(model), "--task", task, "--data", str(drawn_world))
    found = run(*words, "--fraction", "0.1", "--rerank", "2", *FAST)
    assert found["task"] == task
    assert found["recommended"]["bpw"] <= 8
    assert found["trials"]["infeasible"] == 0


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_gets_nothing_right_is_not_searched(
    task: str, model: Path, data: Path
) -> None:
    said = refused("--model", str(model), "--task", task, "--data", str(data), *FAST)
    assert f"scores 0 on {task} at full precision" in said
    assert "likely causes: prompts" in said


def test_the_published_set_is_chosen_by_name(model: Path, data: Path) -> None:
    words = ("evaluate", "--model", str(model), "--task", "coco", "--data", str(data))
    found = {name: run(*words, "--subset", name) for name in ("karpathy", "val2017")}
    assert {name: each["samples"] for name, each in found.items()} == {
        "karpathy": 3,
        "val2017": 3,
    }
    ids = {each["values"][0]["id"] for each in found.values()}
    assert len(ids) == 2
    said = refused(*words, "--subset", "val2018")
    assert "'val2018'" in said
    assert "val2017" in said
    assert "captions_val2014.json" in refused(*words, "--subset", "val2014")


def test_a_fraction_is_a_share_of_the_published_set(model: Path, data: Path) -> None:
    words = ("evaluate", "--model", str(model), "--task", "vqav2", "--data", str(data))
    counts = [run(*words, "--fraction", f)["samples"] for f in ("0.1", "0.5", "1")]
    assert counts[0] * 10 == counts[1] * 2 == counts[2]
    assert run(*words)["samples"] == counts[0]
    assert "not 1.5" in refused(*words, "--fraction", "1.5")


@pytest.mark.parametrize(
    "words",
    [
        ("--task", "coco", "--beams", "3", "--model", "tiny-llava"),
        ("--task", "vqav2", "--beams", "2", "--model", "tiny-blip2"),
        ("--task", "flickr30k", "--rerank", "2", "--model", "tiny-blip2"),
    ],
)
def test_how_predictions_are_made_is_an_option(
    words: tuple[str, ...], data: Path
) -> None:
    found = run("evaluate", *words, "--data", str(data))
    assert found["score"] >= 0
    option, _ = words[2:4]
    said = refused("evaluate", *words, option, "0", "--data", str(data))
    assert f"{option.removeprefix('--')} must be 1" in said
    assert "not 0" in said


def test_one_folder_serves_a_set_of_tasks(model: Path, data: Path) -> None:
    words = ("--model", str(model), "--task-set", "vqav2,gqa,coco", "--data", str(data))
    # a caption of a few pictures may score nothing, and then says so
    done = CliRunner().invoke(main, ["evaluate", *words, "--json"])
    assert done.exit_code in (0, 2), done.output
    if done.exit_code == 2:
        assert "scores 0 on" in done.stderr


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_file_is_named_in_one_sentence(
    task: str, model: Path, tmp_path: Path
) -> None:
    said = refused(
        *("evaluate", "--model", str(model), "--task", task, "--data", str(tmp_path))
    )
    assert ".json" in said


@pytest.mark.parametrize("task", TASKS)
def test_truncated_annotations_are_named_in_one_sentence(
    task: str, model: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    for file in folder.rglob("*.json"):
        file.write_bytes(file.read_bytes()[:200])
    said = refused(
        *("evaluate", "--model", str(model), "--task", task, "--data", str(folder))
    )
    assert ".json" in said
    assert "not a JSON file" in said


def test_a_model_is_told_which_tasks_it_cannot_do(model: Path, data: Path) -> None:
    words = ("evaluate", "--data", str(data), "--task")
    said = refused(*words, "flickr30k", "--model", "tiny-llava")
    assert "flickr30k needs a ranking" in said
    twin = str(model / "retrieval")
    assert "vqav2 needs a reply" in refused(*words, "vqav2", "--model", twin)
    said = refused("evaluate", "--task-set", "vqav2,flickr30k", "--model", "tiny-blip2")
    assert "vqav2: reply, flickr30k: ranking" in said


@pytest.mark.slow
@pytest.mark.nightly
def test_several_tasks_are_searched_at_once(drawn_world: Path, tmp_path: Path) -> None:
    words = ("--task-set", "vqav2,coco", "--model", "tiny-llava")
    found = run(*words, "--data", str(drawn_world), *FAST, "--fraction", "0.2")
    assert found["task"] == "vqav2+coco"
    assert found["full_precision"]["score"] == pytest.approx(100)
    assert found["full_precision"]["details"]["vqav2"] > 90
    assert set(found["recommended"]["details"]) >= {"vqav2", "coco"}
    assert found["full_precision"]["ci95"][0] < 100
    four = next(each for each in found["uniform"] if each["bits"] == 4)
    # finalized, it may be a little above full precision on so few samples
    assert 50 < four["score"] < 105

    # what it recommends scores the same when it is asked of the plan alone
    out = str(tmp_path / "out")
    done = CliRunner().invoke(
        main, ["export", found["study"], "--format", "plan", "--out", out]
    )
    assert done.exit_code == 0, done.output
    again = run("evaluate", "--plan", f"{out}/plan.json", "--data", str(drawn_world))
    assert again["task"] == "vqav2+coco"
    assert again["score"] == pytest.approx(found["recommended"]["score"])
    assert again["applied"] == found["recommended"]["applied"]


def test_a_plan_written_by_hand_is_scored_on_any_task(
    drawn_world: Path, tmp_path: Path
) -> None:
    spec = run("inspect", "--model", "tiny-llava", "--include", "head")
    keys = [group["key"] for group in spec["groups"]]
    assert "language.all.head" in keys
    plan = {
        "model": "tiny-llava",
        "groups": {key: {"bits": 4, "method": "uniform"} for key in keys},
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    words = ("--task", "gqa", "--data", str(drawn_world), "--fraction", "0.1")
    found = run("evaluate", "--plan", str(tmp_path / "plan.json"), *words)
    assert found["bpw"] < 6
    assert found["samples"] == 200
    assert found["score"] > 50
