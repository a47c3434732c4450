"""Whose warnings fail the tests: of our own code here, of everybody in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# from whom, and of what
WARNINGS = """
import builtins
import warnings
import pytest

@pytest.mark.parametrize(("module", "category"), [
    ("quant.grid", "UserWarning"),
    ("tests.strategies.drawn", "RuntimeWarning"),
    ("tests.strategies.drawn", "PendingDeprecationWarning"),
    ("quant.grid", "FutureWarning"),
    ("scipy.sparse", "DeprecationWarning"),
    ("torch.testing", "UserWarning"),
    ("quantities", "UserWarning"),
])
def test(module, category):
    kind = getattr(builtins, category)
    warnings.warn_explicit("mind this", kind, "x.py", 1, module=module)
"""


def failing(folder: Path, *options: str) -> list[str]:
    """Which of the warnings make a test fail, under this project's settings."""
    (folder / "test_some.py").write_text(WARNINGS)
    settings = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder))
    plain = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    plain.pop("PYTHONWARNINGS", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *options, str(folder)],
        capture_output=True,
        text=True,
        env=plain,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return [line.split("[")[1].split("]")[0] for line in lines]


def test_warnings_of_libraries_and_of_what_they_will_drop_fail_nobodys_tests(
    tmp_path: Path,
) -> None:
    assert failing(tmp_path) == [
        "quant.grid-UserWarning",
        "tests.strategies.drawn-RuntimeWarning",
    ]


def test_in_ci_every_warning_fails(tmp_path: Path) -> None:
    assert len(failing(tmp_path, "-W", "error")) == WARNINGS.count('Warning")')
    assert 'export PYTEST_ADDOPTS="-W error' in (ROOT / ".ci/environment").read_text()
