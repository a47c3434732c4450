"""Benchmarks from folders in their official layout, through the command line.

Their pictures and questions are drawn, so that an embedded model can answer them.
"""

from __future__ import annotations

import json
import shutil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from allocator.cli.search import main
from evals.world.files import COCO, part_scenes
from evals.world.language import ask
from evals.world.scene import COLOURS, SHAPES, jpeg
from tests.evals.benchmark_folders import (
    Asked,
    tsv_rows,
    write_chartqa,
    write_docvqa,
    write_pope,
    write_textvqa,
    write_tsv,
)
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evals.world.scene import Scene

N_TRAIN, N_EVALUATED = 24, 48
MODEL = ("--model", "tiny-llava")
FAST = (
    *("--budget", "8", "--methods", "uniform", "--widths", "4", "--trials", "1"),
    *("--calibration", "8", "--no-tune"),
)
# samples to evaluate on
SIZES = {"textvqa": 96, "docvqa": 96, "chartqa": 96, "pope": 288, "tsv": 48}
DETAILS: dict[str, set[str]] = {
    "textvqa": set(),
    "docvqa": set(),
    "chartqa": {"human (%)", "augmented (%)"},
    "pope": {"F1 (%)", "precision (%)", "recall (%)", "yes (%)"},
    "tsv": {"group 0", "group 1"},
}
# a file of what is evaluated on
FILES = {
    "textvqa": "TextVQA_0.5.1_val.json",
    "docvqa": "spdocvqa_qas/val_v1.0_withQT.json",
    "chartqa": "ChartQA Dataset/test/test_human.json",
    "pope": "coco_pope_random.json",
    "tsv": "samples.tsv",
}
# searched at night: what is theirs alone is in a score or in a layout
LATER = ("docvqa", "chartqa", "pope")


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with all benchmarks, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("data")
    first, second, third = (part_scenes("coco", part)[:N_EVALUATED] for part in COCO)
    train, val, test = _asked(first[:N_TRAIN]), _asked(second), _asked(third)
    write_textvqa(folder / "textvqa", {"train": train, "val": test})
    write_docvqa(folder / "docvqa", {"train": train, "val": test})
    write_chartqa(folder / "chartqa", {"train": train, "val": val, "test": test})
    both = [each for scene in (*second, *third) for each in _there_or_not(*scene)]
    write_pope(folder / "pope", dict.fromkeys(("random", "popular"), both))
    write_pope(folder / "pope", {"adversarial": both})
    # the model knows words and no letters
    rows = tsv_rows(test)
    plain = [{**row, "A": "", "B": "", "answer": row["B"]} for row in rows]
    write_tsv(folder / "tsv" / "samples.tsv", plain)
    write_tsv(folder / "choices.tsv", rows)
    write_tsv(folder / "test.tsv", [{**row, "answer": ""} for row in rows])
    return folder


def _asked(scenes: list[tuple[int, Scene]]) -> list[Asked]:
    """Two questions on each picture, with their answers."""
    random = Random(0)
    found = []
    for number, scene in scenes:
        picture = jpeg(scene)
        for question in (ask(scene, random) for _ in range(2)):
            found.append(Asked(number, picture, question.text, question.answer))
    return found


def _there_or_not(number: int, scene: Scene) -> Iterator[Asked]:
    """A question about a thing that is there, and about one that is not."""
    there = {(thing.colour, thing.shape) for thing in scene.things}
    others = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in there]
    for kinds, answer in ((sorted(there), "yes"), (others, "no")):
        colour, shape = Random(number).choice(kinds)
        text = f"is there a {colour} {shape}?"
        yield Asked(number, jpeg(scene), text, answer)


def run(*words: str) -> Any:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def of(task: str, data: Path) -> tuple[str, ...]:
    place = data / "tsv" if task == "tsv" else data
    return ("--task", task, "--data", str(place), *MODEL)


def said(*words: str) -> str:
    """The sentence that it is refused with."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("task", list(SIZES))
def test_a_model_is_scored(task: str, data: Path) -> None:
    found = run("evaluate", *of(task, data))
    assert found["task"] == task
    assert found["samples"] == len(found["values"]) == SIZES[task]
    # what is drawn is what it was trained on
    assert found["score"] > 70
    assert set(found["details"]) == DETAILS[task]


def test_choices_are_scored_by_category(data: Path) -> None:
    words = ("--task", "tsv", "--data", str(data / "choices.tsv"), *MODEL)
    found = run("evaluate", *words, "--fraction", "1")
    assert found["metric"] == "multiple choice (%)"
    assert found["samples"] == 2 * N_EVALUATED
    assert set(found["details"]) == {"group 0", "group 1"}
    assert "no answers" in said("evaluate", *words[:3], str(data / "test.tsv"))


SEARCHED = [
    pytest.param(
        task, marks=[pytest.mark.slow, *([pytest.mark.nightly] * (task in LATER))]
    )
    for task in SIZES
]


@pytest.mark.parametrize("task", SEARCHED)
def test_an_allocation_is_searched(task: str, data: Path) -> None:
    found = run(*of(task, data), *FAST)
    assert found["task"] == task
    assert found["recommended"]["bpw"] <= 8
    assert found["trials"]["infeasible"] == 0
    assert found["full_precision"]["score"] > 70


def test_what_is_set_aside_is_said(data: Path) -> None:
    done = CliRunner().invoke(main, ["evaluate", *of("pope", data)])
    assert "POPE has no training part: half of its photographs" in done.stderr
    done = CliRunner().invoke(main, ["evaluate", *of("tsv", data)])
    assert "has no training part: half of its pictures" in done.stderr


@pytest.mark.parametrize("task", list(SIZES))
def test_a_file_that_is_missing_or_cut_off_is_named(
    task: str, data: Path, tmp_path: Path
) -> None:
    name = FILES[task]
    folder = tmp_path / task
    shutil.copytree(data / task, folder)
    (folder / name).unlink()
    assert name.partition(".")[0] in said("evaluate", *of(task, tmp_path))
    (folder / name).write_bytes((data / task / name).read_bytes()[:150])
    assert name in said("evaluate", *of(task, tmp_path))
