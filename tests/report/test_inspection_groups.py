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
MODELS["Qwen3-VL-30B-A3B"] = QWEN["Qwen3-VL-30B-A3B"]
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


def test_a_target_says_what_it_allows_and_what_it_leaves_out(tmp_path: Path) -> None:
    folder = folder_of("Qwen2.5-VL-3B", tmp_path)
    found = allocator.inspect(folder, target="llama.cpp")
    assert found["target"]["widths"] == [4, 5, 8, 16]
    assert found["target"]["notes"]["5"] == "Q5_0"
    assert found["target"]["group_sizes"] == [32]
    assert found["target"]["symmetric"] == [True]
    assert {size["bits"] for size in found["uniform"]} == {4, 5, 8, 16}
    # the projection back in each block of the vision tower, 3420 = 106 x 32 + 28
    left = {each["name"]: each["reason"] for each in found["left_out"]}
    odd = [name for name, why in left.items() if why.startswith("llama.cpp:")]
    assert len(odd) == 32
    assert all(name.endswith("mlp.down_proj") for name in odd)
    assert left[odd[0]] == "llama.cpp: rows of 3,420, no multiple of 32"
    # 4.5 bits a weight in groups, since a block of 32 has an fp16 scale
    assert found["uniform"][0]["bpw_quantized"] == pytest.approx(4.5)


def test_a_terminal_says_what_a_target_allows(tmp_path: Path) -> None:
    folder = folder_of("Qwen2.5-VL-3B", tmp_path)
    words = ("inspect", "--model", folder, "--target")
    said = CliRunner().invoke(main, (*words, "vllm")).stdout
    lines = said.splitlines()
    assert lines[1].startswith("target vllm: vLLM 0.32")
    assert any(x.startswith("at 4 bits: CPU ") and "Marlin" in x for x in lines)
    assert any("not verified without a GPU" in line for line in lines)
    assert "one scheme for q_proj, k_proj, v_proj of a module" in lines
    # gate and up have 3,420 outputs, and down as many inputs
    reasons = [
        each["reason"] for each in allocator.inspect(folder, target="vllm")["left_out"]
    ]
    assert reasons.count("vllm: 3,420 inputs, no multiple of 32") == 32
    assert reasons.count("vllm: 3,420 outputs, no multiple of 32") == 64
    assert "target" not in CliRunner().invoke(main, words[:-1]).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mlx",), "target mlx (mlx-vlm 0.7) does not take models of type 'blip-2'"),
        (("mxl",), "no target 'mxl' (known: llama.cpp, mlx, none, transformers, vllm)"),
        (("mlx", "--group-size", "channel"), "'channel' is not one of 128, 64, 32"),
        (("llama.cpp", "--widths", "3,4"), "width 3 is not possible"),
        (("transformers", "--group-size", "tensor"), "'tensor' is not one of"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("inspect",),
        ("--budget", "4", "--task", "vqav2"),
        ("bank", "build", "--task", "vqav2"),
    ],
)
def test_what_a_target_cannot_do_is_refused_before_anything_is_made(
    command: tuple[str, ...], words: tuple[str, ...], said: str
) -> None:
    found = CliRunner().invoke(main, (*command, "--target", *words))
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())


@pytest.mark.parametrize("words", [("inspect",), ("--budget", "4", "--task", "vqav2")])
def test_one_scale_a_matrix_is_refused_but_for_rounding(words: tuple[str, ...]) -> None:
    found: Any = CliRunner().invoke(main, (*words, "--group-size", "tensor"))
    assert found.exit_code == 2
    assert "'tensor' goes with method 'uniform' alone, not with gptq, awq" in str(
        found.output
    )


def test_what_stays_in_every_block_alike_is_one_row(tmp_path: Path) -> None:
    folder = folder_of("Qwen3-VL-30B-A3B", tmp_path)
    said = CliRunner().invoke(main, ("inspect", "--model", folder)).stdout
    rows = [row.split("│") for row in said.splitlines() if row.startswith("│")]
    # 48 routers of 128 x 2048, whose name takes two lines
    (at,) = [n for n, row in enumerate(rows) if row[2].strip() == "12,582,912"]
    name = rows[at][1].strip() + rows[at + 1][1].strip()
    assert name == "model.language_model.layers.*.mlp.gate (48)"
