"""bandit finds nothing in our sources that is not explained where it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("allocator", "quant", "evals", "surrogate")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("bandit") is None, reason="bandit is missing")
def test_bandit_finds_nothing() -> None:
    command = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r"]
    ran = subprocess.run(
        [*command, *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_what_bandit_passes_over_has_a_reason() -> None:
    marks = [
        line
        for name in PACKAGES
        for file in (ROOT / name).rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if "# nosec" in line
    ]
    assert marks
    for line in marks:
        assert re.search(r"# nosec B\d{3}: \w+", line), line
