"""`inspect` of models whose rows the group size does not divide."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import allocator
from allocator.cli.search import main
from tests.families.test_qwen_vl_sizes import PUBLISHED as QWEN
from tests.families.test_smolvlm import PUBLISHED as SMOLVLM

if TYPE_CHECKING:
    from pathlib import Path

MODELS = {"Qwen2.5-VL-3B": QWEN["Qwen2.5-VL-3B"], "SmolVLM": SMOLVLM["500M"]}
MODELS |= {"SmolVLM-2.2B": SMOLVLM["2.2B"]}


def folder_of(name: str, folder: Path) -> str:
    (folder / "config.json").write_text(json.dumps(MODELS[name].config))
    return str(folder)


@pytest.mark.parametrize(
    ("name", "rows", "size", "count"),
    [
        # one projection back in each block of the vision tower
        ("Qwen2.5-VL-3B", 3420, "channel", 32),
        ("SmolVLM-2.2B", 4304, "channel", 27),
        # queries, keys, values, output, gate and up of each language block;
        # 960 = 15 x 64
        ("SmolVLM", 960, 64, 32 * 6),
        ("SmolVLM", 2560, 128, 32),
    ],
)
def test_the_group_size_of_rows_of_each_length_is_said(
    name: str, rows: int, size: int | str, count: int, tmp_path: Path
) -> None:
    found = allocator.inspect(folder_of(name, tmp_path))
    (own,) = [each for each in found["group_sizes"] if each["in_features"] == rows]
    assert (own["group_size"], len(own["linears"])) == (size, count)
    total = sum(len(each["linears"]) for each in found["group_sizes"])
    assert total == sum(len(group["linears"]) for group in found["groups"])


def test_a_terminal_says_where_it_is_another_than_asked(tmp_path: Path) -> None:
    folder = folder_of("Qwen2.5-VL-3B", tmp_path)
    said = CliRunner().invoke(main, ("inspect", "--model", folder)).stdout
    lines = [line for line in said.splitlines() if "do not divide" in line]
    assert lines == [
        "32 linears have rows of 3,420, which groups of 128 do not divide: one scale a "
        "row"
    ]


@pytest.mark.parametrize("words", [("inspect",), ("--budget", "4", "--task", "vqav2")])
def test_one_scale_a_matrix_is_refused_but_for_rounding(words: tuple[str, ...]) -> None:
    found: Any = CliRunner().invoke(main, (*words, "--group-size", "tensor"))
    assert found.exit_code == 2
    assert "'tensor' goes with method 'uniform' alone, not with gptq, awq" in str(
        found.output
    )
