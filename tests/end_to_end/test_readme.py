"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_tree_names_files_that_exist_and_no_plug_in_is_missing() -> None:
    tree = re.search(r"## Tree\n\n```\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    named = set(re.findall(r"[\w.]+\.(?:py|md)\b", tree[1]))
    packages = ("allocator", "evals", "quant", "studies", "surrogate")
    here = {f.name for package in packages for f in (ROOT / package).rglob("*.*")}
    assert named <= here
    for folder in ("families", "strategies", "exporters", "core", "report"):
        files = {f.name for f in (ROOT / "allocator" / folder).glob("*.py")}
        assert files - {"__init__.py"} <= named, folder


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert "\n    python -m pytest\n" in README
    assert "\npython -m pytest\n" in (ROOT / ".ci/run").read_text()


@pytest.mark.slow
def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    exec(example[1], {})
    bpw, score = capsys.readouterr().out.split()[:2]
    assert float(bpw) <= 4.0
    # far above every uniform allocation that fits (33 to 58)
    assert float(score) > 80
