"""What a search takes at full size, by configurations alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.families import family_of
from studies.scale import cost

if TYPE_CHECKING:
    from pathlib import Path

# parameters as the checkpoints have them (tests/families)
PARAMETERS = {
    "llava-1.5-7b-hf": 7_063_427_072,
    "qwen2.5-vl-7b-instruct": 8_292_166_656,
    "blip2-opt-2.7b": 3_744_761_856,
    "qwen3.6-27b": 27_356_728_560,
}
# what experts compute is not counted yet
SIZES = {**PARAMETERS, "qwen3-vl-30b-a3b-instruct": 31_070_754_032}
# of a COCO picture in the prompt: 24 x 24 patches; 23 x 17 squares of 28 pixels;
# queries; 20 x 15 squares of 32 pixels
TOKENS = {
    "llava-1.5-7b-hf": 576,
    "qwen2.5-vl-7b-instruct": 391,
    "blip2-opt-2.7b": 32,
    "qwen3.6-27b": 300,
}


def hours(told: str) -> float:
    """The sum in a table's title."""
    return float(told.split(": ")[1].split(" hours")[0])


@pytest.mark.parametrize("name", SIZES)
def test_configurations_are_those_of_the_published_checkpoints(name: str) -> None:
    folder = cost.model_folder(name)
    assert family_of(folder).spec(folder).parameters == SIZES[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_table_has_a_line_for_each_part_that_adds_up(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cost.main(["--model", name, "--device", "h100"])
    told = capsys.readouterr().out
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ")]
    parts = {row[0][2:]: float(row[3]) for row in rows if row[-1] == "assumed |"}
    assert {"scoring", "weight swaps", "looks and probes", "bank"} < parts.keys()
    assert sum(parts.values()) == pytest.approx(hours(told), abs=0.01)
    assert "989 and 67 TFLOPS" in told


def test_the_code_as_it_was_takes_about_nine_hours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cost.main(["--model", "llava-1.5-7b-hf", "--before"])
    told = capsys.readouterr().out
    assert 7 < hours(told) < 12
    # 620 tokens of 6.48 G weights, two flops each, at 0.4 of 989 TFLOPS: 20.3 ms
    assert "prompt 20.3" in told
    assert "370 linears x 18 cells" in told


@pytest.mark.parametrize("name", PARAMETERS)
def test_pictures_of_coco_are_as_many_tokens_as_processors_make(name: str) -> None:
    config = json.loads((cost.model_folder(name) / "config.json").read_text())
    found = cost.lengths_of(config, 8)
    assert found.picture - 4 == TOKENS[name]


def test_what_was_measured_takes_the_place_of_what_is_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu_card.json"
    units: dict[str, Any] = {
        "swap": {"each": 1e-9, "of": "a weight"},
        "prompt": {"each": 1e-5, "of": "a token"},
        "solve gptq": {"each": 5e-9, "of": "a weight"},
    }
    file.write_text(json.dumps({"about": {"card": "Card 9"}, "units": units}))
    cost.main(["--model", "llava-1.5-7b-hf", "--gpu", str(file)])
    told = capsys.readouterr().out
    assert "| swap | 1e-09 | measured | Card 9 |" in told
    assert "| prompt | 1e-05 | measured | Card 9 |" in told
    assert "| solve gptq | 5e-09 | measured | Card 9 |" in told
    cost.main(["--model", "blip2-opt-2.7b", "--gpu", str(file)])
    told = capsys.readouterr().out
    # per weight it is the same, per token it follows the weights
    assert "| swap | 1e-09 | measured | Card 9 |" in told
    assert "assumed | LLaVA-1.5-7B on Card 9, by its weights |" in told


def test_another_assumption_gives_another_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["--model", "llava-1.5-7b-hf", "--before"]
    cost.main(asked)
    usual = capsys.readouterr().out
    cost.main([*asked, "--assume", "share of flops", "0.2"])
    told = capsys.readouterr().out
    # twice as long
    assert "prompt 40.6" in told
    assert hours(told) > hours(usual)
    with pytest.raises(SystemExit):
        cost.main([*asked, "--assume", "share", "0.2"])
    assert "there is no figure 'share'; there are share of" in capsys.readouterr().err
    cost.main(asked)
    assert capsys.readouterr().out == usual


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not a model folder"):
        cost.main(["--model", str(tmp_path)])


def test_what_nobody_counted_before_is_refused(tmp_path: Path) -> None:
    own = cost.model_folder("llava-1.5-7b-hf") / "config.json"
    (tmp_path / "config.json").write_text(own.read_text())
    with pytest.raises(SystemExit, match=r"nobody counted .* there are blip2"):
        cost.main(["--model", str(tmp_path), "--before"])
