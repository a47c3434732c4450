"""What --help says can be typed as it stands."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from allocator.cli import search
from allocator.cli.search import EXAMPLES, main
from allocator.core.study import StudySpec
from allocator.search.request import read_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUPS = (
    *("Goal, one of them:", "Model and data:", "What may be quantized, and how:"),
    *("Search:", "Where it is kept:", "Output:"),
)
EACH_EXAMPLE = [
    line.strip()
    for line in EXAMPLES.splitlines()
    if line.strip().startswith("allocate")
]


def commands(
    group: click.Group, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command there is, with the words that call it."""
    yield words, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


VALUES = [
    pytest.param(command, option, id=" ".join((*words, option.opts[-1])))
    for words, command in commands(main)
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag
]


def test_options_stand_in_named_groups_in_order() -> None:
    lines = CliRunner().invoke(main, ["--help"]).stdout.splitlines()
    places = [lines.index(title) for title in GROUPS]
    assert places == sorted(places)
    assert "Other options:" not in lines


def test_no_line_is_wider_than_a_terminal_and_no_command_is_cut_short() -> None:
    for words, _ in commands(main):
        said = CliRunner().invoke(main, [*words, "--help"], terminal_width=80).stdout
        assert max(map(len, said.splitlines())) <= 80, words
        assert "...\n" not in said.split("Examples:")[0].replace("[ARGS]...", ""), words


@pytest.mark.parametrize(("command", "option"), VALUES)
def test_a_metavar_can_be_typed_as_it_stands(
    command: click.Command, option: click.Option
) -> None:
    assert option.metavar, option.opts
    (word,) = shlex.split(option.metavar)
    given = [word] if option.multiple else word
    value = option.type_cast_value(click.Context(command), given)
    name = option.name or ""
    if command is main and name in StudySpec.__dataclass_fields__:
        usual: dict[str, Any] = {"budget": "4.0", "task": "vqav2"}
        if name in ("min_score", "confidence"):
            usual = {"min_score": 0.98, "task": "vqav2"}
        asked = StudySpec.read({**usual, name: value})
        assert getattr(asked, name) == value
        # an example of the default would show nothing
        default = getattr(StudySpec("4.0", "vqav2"), name)
        assert value != default or name in ("budget", "task", "methods")


@pytest.mark.parametrize("line", EACH_EXAMPLE)
def test_an_example_is_a_request_that_is_understood(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text('task = "vqav2"\nbudget = 4.0\n')
    monkeypatch.chdir(tmp_path)
    asked: list[StudySpec] = []
    monkeypatch.setattr(search, "_search", lambda request, *_: asked.append(request))
    done = CliRunner().invoke(main, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output
    assert len(asked) == 1
    given = json.loads(json.dumps(asked[0].to_json()))
    assert read_request(given) == asked[0]


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["inspct"], "inspect"),
        (["explan", "x"], "explain"),
        (["bank", "bild"], "build"),
        (["studies", "lst"], "list"),
        (["--buget", "4.0"], "--budget"),
        (["evaluate", "--dta", "x"], "--data"),
    ],
)
def test_a_mistyped_word_gets_its_near_miss(words: list[str], near: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "Did you mean" in done.stderr
    assert f"'{near}'" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    asked = {"_ALLOCATE_COMPLETE": f"{shell}_source"}
    done = CliRunner().invoke(main, env=asked, prog_name="allocate")
    assert "allocate" in done.stdout
    env = {
        "_ALLOCATE_COMPLETE": "bash_complete",
        "COMP_WORDS": "allocate --bud",
        "COMP_CWORD": "1",
    }
    done = CliRunner().invoke(main, env=env, prog_name="allocate")
    assert "--budget" in done.stdout
    assert "--budget-scope" in done.stdout
