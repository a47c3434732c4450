"""Twenty thousand damaged inputs for every reader, in processes within bounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.run import READERS

COUNT = 20_000
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", READERS)
def test_no_input_makes_anything_else_of_a_reader(name: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.fuzz.run", str(COUNT), name]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
