"""The drawn world is a data folder like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.plugins import load
from allocator.core.ports import SPLITS, Selection
from evals.splits import check_disjoint

if TYPE_CHECKING:
    from pathlib import Path


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
    drawn_world: Path, name: str, sizes: tuple[int, int, int]
) -> None:
    task = load("evals.tasks", name)
    found = {split: task.samples(drawn_world, split, Selection()) for split in SPLITS}
    assert tuple(len(samples) for samples in found.values()) == sizes
    check_disjoint(**found)
    # their official loaders do not look at EXIF orientations
    assert not any(sample.upright for each in found.values() for sample in each)
    tenth = task.samples(drawn_world, "evaluation", Selection(0, 0.1))
    assert len(tenth) == sizes[-1] // 10
    assert set(tenth) < set(found["evaluation"])
