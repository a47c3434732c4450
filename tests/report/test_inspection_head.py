"""What `inspect` says of a model's output head."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from allocator.embedded import HERE
from allocator.report.inspection import inspect_model
from allocator.report.text_inspection import print_inspection
from allocator.search.request import sizes_request
from tests.families.checkpoints import change

if TYPE_CHECKING:
    from pathlib import Path

# 128 words of 64 numbers, in the embedded LLaVA
HEAD = 128 * 64


@pytest.mark.parametrize("flag", [True, False])
def test_a_configuration_alone_is_said_to_assume(
    flag: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(HERE / "tiny-llava" / "config.json", tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    text["tie_word_embeddings"] = flag
    change(tmp_path / "config.json", tie_word_embeddings=flag, text_config=text)
    found = inspect_model(sizes_request({"model": str(tmp_path)}))
    other = found["parameters"] + (HEAD if flag else -HEAD)
    assert found["head"] == {
        "tied": flag,
        "assumed": True,
        "parameters_otherwise": other,
    }
    print_inspection(found)
    out = " ".join(capsys.readouterr().out.split())
    there = "two matrices" if flag else "one matrix"
    assert f"{there} would make {other:,} parameters" in out


def test_weights_leave_nothing_to_assume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    found = inspect_model(sizes_request({"model": str(tmp_path / "model")}))
    assert found["head"] == {
        "tied": True,
        "assumed": False,
        "parameters_otherwise": None,
    }
    print_inspection(found)
    assert "would make" not in capsys.readouterr().out
