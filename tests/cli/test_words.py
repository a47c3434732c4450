"""Words and lengths of one's own: taken by every command, refused in one sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import allocator
from allocator.cli.search import main
from allocator.core.errors import SpecError
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

COMMANDS = (
    ("--budget", "4.0", "--task", "vqav2"),
    ("evaluate", "--task", "vqav2"),
    ("bank", "build", "--task", "vqav2"),
)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path, drawn_world):
        yield


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--prompt", "is <image> {}"), "has <image>, and the picture has a place"),
        (("--prompt", "what is it"), "no place for the question"),
        (("--max-new-tokens", "0"), "the longest reply must be 1 to 32,768 tokens"),
    ],
)
def test_every_command_refuses_what_cannot_be_meant(
    command: tuple[str, ...], given: tuple[str, str], said: str
) -> None:
    found = run(*command, *given)
    assert found.exit_code == 2
    (line,) = found.stderr.strip().splitlines()
    assert said in line


def test_words_come_from_a_file_and_from_python_too(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('budget = "4.0"\ntask = "vqav2"\nprompt = "{} {}"\n')
    assert "has 2 places for the question" in run("--spec", str(file)).stderr
    with pytest.raises(SpecError, match="has 2 places for the question"):
        allocator.evaluate("tiny-llava", "vqav2", prompt="{} {}")
    # options come before what the file says
    found = run("--spec", str(file), "--prompt", "what")
    assert "no place for the question" in found.stderr


def test_a_model_answers_in_the_words_and_the_length_that_are_given() -> None:
    """In its own, with enough of it, the embedded one is at its best."""
    scored = ("evaluate", "--model", "tiny-llava", "--task", "vqav2", "--json")
    scores = [
        json.loads(run(*scored, "--fraction", "0.01", *given).stdout)["score"]
        for given in (
            ("--prompt", "{question}", "--max-new-tokens", "9"),
            ("--prompt", "above {} below and how many"),
            ("--max-new-tokens", "1"),
        )
    ]
    assert scores[0] > max(scores[1:])
