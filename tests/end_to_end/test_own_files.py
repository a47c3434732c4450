"""Files of a user's own, through the command line and the front door."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import allocator
from allocator.bench.prepare import prepare
from allocator.cli.search import main
from allocator.core.study import StudySpec
from tests.evals.own_files import lines, rows, separated, write
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

MODEL = ("--model", "tiny-llava")


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        yield


def run(*words: str) -> Result:
    return CliRunner().invoke(main, [*words, *MODEL])


def evaluated(data: Path, *words: str) -> dict[str, Any]:
    done = run("evaluate", "--task", "own", "--data", str(data), "--json", *words)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def yes_or_no() -> list[dict[str, Any]]:
    """Questions that the model answers rightly: nothing is drawn on the pictures."""
    return rows(question="is there a red circle?", answer="no")


def test_a_file_is_evaluated_from_its_path_or_its_folder(tmp_path: Path) -> None:
    file = write(tmp_path, "samples.csv", separated(yes_or_no()))
    by_path, by_folder = evaluated(file), evaluated(tmp_path)
    assert by_path["values"] == by_folder["values"]
    assert by_path["metric"] == "exact match (%)"
    # half of 60 pictures
    assert by_path["samples"] == 30
    found = allocator.evaluate(model="tiny-llava", task="own", data=file)
    assert found["score"] == by_path["score"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "samples.jsonl",
            lines(rows())[:-5],
            "line 60 of samples.jsonl is not JSON: it ends in the middle",
        ),
        (
            "samples.csv",
            separated(rows()).replace("7.png", "gone.png"),
            "column 'image' in row 9 of samples.csv is missing: expected 'gone.png'",
        ),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "--budget 8 --dry-run"])
def test_a_wrong_file_is_one_sentence_and_exit_code_2(
    command: str, name: str, text: str, expected: str, tmp_path: Path
) -> None:
    file = write(tmp_path, name, text)
    done = run(*command.split(), "--task", "own", "--data", str(file))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"allocate: {expected}")
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(allocator.DataError, match=expected):
        allocator.evaluate(model="tiny-llava", task="own", data=file)


def test_an_own_file_stands_beside_published_tasks_in_one_folder(
    tmp_path: Path, drawn_world: Path
) -> None:
    for each in drawn_world.iterdir():
        (tmp_path / each.name).symlink_to(each)
    file = write(tmp_path, "samples.jsonl", lines(yes_or_no()))
    words = ("evaluate", "--task", "own+vqav2", "--fraction", "0.02")
    done = run(*words, "--data", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["details"]) == {"own", "vqav2"}
    # a file alone has nothing of the other
    done = run(*words, "--data", str(file))
    assert done.exit_code == 2
    assert "there is no data folder" in done.stderr


def test_inspect_shows_how_own_questions_are_asked() -> None:
    done = run("inspect", "--task", "own", "--prompt")
    assert done.exit_code == 0, done.output
    assert "prompt for vqa" in done.stdout
    assert "prompt for caption" in done.stdout


def test_copies_of_published_pictures_are_in_no_second_set(
    tmp_path: Path, drawn_world: Path
) -> None:
    for each in drawn_world.iterdir():
        (tmp_path / each.name).symlink_to(each)
    pictures = sorted((drawn_world / "val2014").iterdir())[:60]
    for number, picture in enumerate(pictures):
        (tmp_path / f"{number}.png").write_bytes(picture.read_bytes())
    write(tmp_path, "samples.jsonl", lines(yes_or_no()))
    asked = StudySpec("4.0", "own+vqav2", model="tiny-llava", data=str(tmp_path))
    setup = prepare(asked)
    held = {
        split: {sample.image.read_bytes() for sample in own}
        for split, own in setup.samples.items()
    }
    assert not held["calibration"] & held["evaluation"]
    assert not held["search"] & held["evaluation"]
    assert not held["calibration"] & held["search"]
    assert any(sample.id.startswith("own:") for sample in setup.samples["search"])
