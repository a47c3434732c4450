from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.bench.prepare import Setup, prepare
from allocator.core.study import StudySpec
from allocator.study.identity import difference
from tests.worlds import homes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Setup:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        return prepare(StudySpec("4.0", "vqav2", model="tiny-llava"))


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ({"methods": ("uniform",)}, "methods uniform (version "),
        ({"widths": (2, 4, 16)}, "widths 2, 3, 4, 5, 6, 8, 16, not 2, 4, 16"),
        (
            {"group_size": 64},
            "scheme groups of 128, asymmetric, scales in float16, not ",
        ),
        ({"granularity": "block"}, "granularity type, not block"),
        ({"include": ("head",)}, "included nothing more, not head"),
        ({"beams": 3}, "beams 1, not 3"),
        ({"max_new_tokens": 7}, "longest reply the task's own, not 7 tokens"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"target": "mlx"}, "target none, not mlx"),
    ],
)
def test_what_makes_it_another_study_is_told(
    setup: Setup, bound: dict[str, object], said: str
) -> None:
    other = replace(setup, asked=replace(setup.asked, **bound))
    told = difference(setup.identity.parts, other.identity.parts)
    assert told.startswith(said)
    assert ";" not in told


def test_another_device_or_model_or_picture_is_told(setup: Setup) -> None:
    theirs, samples = setup.identity.parts, dict(setup.samples)
    there = replace(setup, device="cuda:0").identity
    assert difference(theirs, there.parts) == (
        "computing on cpu in float32, not cuda in float16"
    )
    other = replace(setup, weights="0123456789abcdef").identity
    assert difference(theirs, other.parts) == (
        f"model tiny-llava (digest {setup.weights[:8]}), not tiny-llava "
        "(digest 01234567)"
    )
    samples["search"] = samples["search"][:-1]
    fewer = difference(theirs, replace(setup, samples=samples).identity.parts)
    assert fewer.startswith("samples ")
    assert f"{len(samples['search'])} for search" in fewer
