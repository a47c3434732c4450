"""The drawn world is a data folder like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.plugins import load
from allocator.core.ports import SPLITS, Selection
from evals.splits import check_disjoint
from evals.world.files import write_world

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vqav2", (128, 1_000, 2_000)),
        ("gqa", (128, 1_000, 2_000)),
        ("coco", (128, 500, 1_000)),
        ("flickr30k", (128, 200, 500)),
    ],
)
def test_every_task_finds_its_samples_there(
    world: Path, name: str, sizes: tuple[int, int, int]
) -> None:
    task = load("evals.tasks", name)
    found = {split: task.samples(world, split, Selection()) for split in SPLITS}
    assert tuple(len(samples) for samples in found.values()) == sizes
    check_disjoint(**found)
    tenth = task.samples(world, "evaluation", Selection(0, 0.1))
    assert len(tenth) == sizes[-1] // 10
    assert set(tenth) < set(found["evaluation"])
