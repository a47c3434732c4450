"""How tests are run, the world that they share, a model that is added up by hand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from allocator.core.spec import LeftOut, Linear, ModelSpec, build_groups
from tests.databases import postgres, postgres_url
from tests.parallel import pytest_cmdline_main, pytest_collection_modifyitems
from tests.worlds import shared_folder, shared_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# hooks and fixtures, found by their names
__all__ = [
    "postgres",
    "postgres_url",
    "pytest_cmdline_main",
    "pytest_collection_modifyitems",
]

# Matrices of tests are tiny: threads within one would wait for each other all the
# time. Read when torch is imported, here and in every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data home of the tests' own: what studies could not be told is kept there."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def drawn_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world as files, drawn once for all processes; to read, never to change."""
    return shared_world(shared_folder(tmp_path_factory))


def toy_linears() -> list[Linear]:
    """Three vision blocks, a projector without blocks, two language blocks."""
    found = []
    for block in range(3):
        name = f"vision.{block}"
        found += [
            Linear(f"{name}.attn", "vision", block, "attn", 64, 64),
            Linear(f"{name}.ff", "vision", block, "ff", 128, 64),
        ]
    found.append(Linear("projector", "connector", None, "all", 96, 64))
    for block in range(2):
        name = f"language.{block}"
        found += [
            Linear(f"{name}.attn", "language", block, "attn", 96, 96),
            Linear(f"{name}.ff", "language", block, "ff", 192, 96),
        ]
    return found


@pytest.fixture
def toy() -> ModelSpec:
    """98,304 weights in 9 groups of 102,400 parameters.

    vision 3 x (4096 + 8192), connector 6144, language 2 x (9216 + 18432); outside the
    groups a head of 3072 and 1024 parameters that are no linear layer.
    """
    head = LeftOut("head", 32 * 96, "the output layer stays as it is")
    return ModelSpec("toy", 102_400, build_groups(toy_linears()), (head,))
