"""Examples in docstrings are run wherever there are any."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("allocator", "quant", "evals", "surrogate")
SHOWN = sorted(
    file.relative_to(ROOT).as_posix()
    for name in PACKAGES
    for file in (ROOT / name).rglob("*.py")
    if ">>> " in file.read_text()
)


def test_the_rooms_that_show_how_they_are_used_are_found() -> None:
    assert set(SHOWN) >= {
        *("allocator/core/allocation.py", "allocator/core/spec.py"),
        *("allocator/space/fronts.py", "evals/interval.py", "quant/packing.py"),
    }


@pytest.mark.parametrize("file", SHOWN)
def test_examples_in_docstrings_give_what_they_show(file: str) -> None:
    name = file.removesuffix(".py").removesuffix("/__init__")
    module = import_module(name.replace("/", "."))
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
