"""What an exported checkpoint's card says runs as it is printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.command import allocate
from tests.worlds import lend

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("compressed_tensors") is None,
        reason="compressed-tensors is not installed",
    ),
]
SEARCH = (
    *("--budget", "5", "--task", "vqav2", "--model", "tiny-llava", "--trials", "1"),
    *("--no-rungs", "--methods", "uniform,awq", "--widths", "3,4,8", "--study", "s"),
    *("--granularity", "component", "--calibration", "16"),
    *("--target", "transformers", "--fraction", "0.1", "--seed", "1"),
)
QUESTION = r"""
from PIL import Image

inputs = processor(
    images=Image.new("RGB", (48, 48), "red"),
    text="USER: <image>\nwhat is this? ASSISTANT:",
    return_tensors="pt",
).to(model.dtype)
ids = model.generate(**inputs, max_new_tokens=4, do_sample=False)
said = processor.batch_decode(ids[:, inputs["input_ids"].shape[1]:])
assert said[0].strip(), said
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Path:
    home = tmp_path_factory.mktemp("home")
    lend(drawn_world, home / "cache")
    return home


@pytest.fixture(scope="module")
def found(home: Path) -> dict[str, Any]:
    """The search; what it recommends lies in home / "out"."""
    told: dict[str, Any] = allocate(home, *SEARCH)
    words = ("--format", "compressed-tensors", "--out", str(home / "out"))
    allocate(home, "export", "s", *words)
    return told


def card(home: Path, pattern: str) -> str:
    parts = re.findall(pattern, (home / "out" / "README.md").read_text(), re.DOTALL)
    assert len(parts) == 1
    return str(parts[0])


def test_its_python_loads_the_folder_and_it_answers(
    home: Path, found: dict[str, Any]
) -> None:
    assert found["study"] == "s"
    lines = card(home, r"```python\n(.*?)```")
    # isolated: nothing of this project is in the way
    done = subprocess.run(
        [sys.executable, "-I", "-c", lines + QUESTION],
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_its_command_gives_the_score_of_the_recommendation(
    home: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(card(home, r"\n    (allocate evaluate .*?)\n"))
    monkeypatch.chdir(home)
    told = allocate(home, *words[1:])
    assert told["score"] == found["recommended"]["score"]
    assert told["bpw"] == found["recommended"]["bpw"]
    assert words[-4:] == ["--fraction", "0.1", "--seed", "1"]
