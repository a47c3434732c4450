"""`inspect --prompt`: how a model is asked, as it gets it, without its weights."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import allocator
from allocator.cli.search import main
from allocator.embedded import HERE
from allocator.report.inspection import QUESTION

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

KINDS = {"vqa", "gqa", "caption", "plain"}


def inspected(*words: str) -> Result:
    return CliRunner().invoke(main, ("inspect", "--prompt", *words))


@pytest.mark.parametrize(
    ("model", "start"),
    [("tiny-llava", "<s> user :[<image> x 16]"), ("tiny-blip2", "[<image> x 12]<s>")],
)
def test_every_kind_of_prompt_is_shown_with_its_special_tokens(
    model: str, start: str
) -> None:
    found = json.loads(inspected("--model", model, "--json").stdout)
    assert found["prompts"].keys() == KINDS
    assert all(prompt.startswith(start) for prompt in found["prompts"].values())
    assert found == allocator.inspect(model, prompt=True)
    assert "prompts" not in allocator.inspect(model)


def test_a_task_shows_its_own_kind(tmp_path: Path) -> None:
    found = allocator.inspect("tiny-llava", task="gqa+coco", prompt=True)
    assert found["prompts"].keys() == {"gqa", "caption"}
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    (folder / "model.safetensors").unlink()
    assert allocator.inspect(str(folder), task="gqa", prompt=True)["prompts"] == {
        "gqa": found["prompts"]["gqa"]
    }


def test_words_that_are_given_are_shown_as_they_would_be_asked() -> None:
    words = "Name {question} in short"
    found = json.loads(inspected(words, "--model", "tiny-llava", "--json").stdout)
    assert found["prompts"].keys() == {"plain"}
    shown = found["prompts"]["plain"]
    assert shown.startswith("<s> user :[<image> x 16]name what color is the circle? in")
    assert shown.endswith("assistant :")
    assert found == allocator.inspect("tiny-llava", prompt=words)
    refused = inspected("{} {}", "--model", "tiny-llava")
    assert refused.exit_code == 2
    assert "has 2 places for the question" in refused.stderr


def test_a_model_that_ranks_shows_how_it_reads_a_text() -> None:
    found = allocator.inspect("tiny-blip2", task="flickr30k", prompt=True)
    assert found["prompts"].keys() == {"text"}
    assert found["prompts"]["text"].endswith(QUESTION[-8:].lower())


def test_prompts_come_first_in_what_is_printed() -> None:
    shown = inspected("--model", "tiny-llava", "--task", "vqav2").stdout
    assert shown.startswith("prompt for vqa: '<s> user :[<image> x 16]what color")


def test_prompts_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    (folder / "prompts.json").write_text('{"vqa": "USER: {}"}')
    result = inspected("--model", str(folder))
    assert result.exit_code == 2
    assert "prompts.json: vqa has 0 places for the picture" in result.stderr
