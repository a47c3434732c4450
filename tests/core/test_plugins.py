from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import UnknownNameError
from allocator.core.plugins import available, load

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with two plug-ins, one of which cannot be imported, and a helper."""
    folder = tmp_path / "fruit_for_tests"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "pear.py").write_text("PLUGIN = 'a pear'\n")
    (folder / "apple.py").write_text("raise RuntimeError('imported')\n")
    (folder / "_basket.py").write_text("PLUGIN = 'no fruit'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [n for n in sys.modules if n.split(".")[0] == folder.name]:
        del sys.modules[name]


def test_files_are_plugins_unless_their_name_starts_with_an_underscore(
    package: str,
) -> None:
    # listing imports none of them: importing apple would raise
    assert available(package) == ("apple", "pear")


def test_a_plugin_is_the_constant_of_its_file(package: str) -> None:
    assert load(package, "pear") == "a pear"


def test_an_unknown_plugin_is_refused_with_the_near_miss(package: str) -> None:
    with pytest.raises(
        UnknownNameError, match=r"no fruit 'paer' \(known: apple, pear\).*'pear'"
    ):
        load(package, "paer", "fruit")


def test_a_helper_cannot_be_loaded_as_a_plugin(package: str) -> None:
    with pytest.raises(UnknownNameError, match="_basket"):
        load(package, "_basket")


def test_the_vocabulary_needs_the_standard_library_only() -> None:
    names = ", ".join(f"allocator.core.{name}" for name in available("allocator.core"))
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"import {names}\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(*sorted(loaded - sys.stdlib_module_names))"
    )
    done = subprocess.run(
        # -I -S: nothing that is installed can be imported, or is already
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["__main__", "allocator"]
