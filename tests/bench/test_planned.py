"""A plan whose groups are not the model's: what differs is told at its granularity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.bench.planned import setup_of
from allocator.core.allocation import Choice, Scheme
from allocator.core.errors import SpecError
from allocator.core.plan import Plan
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from tests.worlds import homes

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("vision.all.all", "connector.all.all", "language.all.all")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (PARTS[1:], "missing: vision.all.all"),
        ((*PARTS, "head"), "unknown: head"),
    ],
)
def test_groups_that_differ_are_told_at_the_granularity_of_the_plan(
    keys: tuple[str, ...], said: str, tmp_path: Path, drawn_world: Path
) -> None:
    plan = Plan("tiny-llava", Scheme(), dict.fromkeys(keys, Choice(4, "uniform")))
    asked = StudySpec("8.0", "vqav2", model="tiny-llava", fraction=0.05)
    with (
        homes(tmp_path, drawn_world),
        pytest.raises(SpecError, match=rf"other groups than tiny-llava \({said}\)"),
    ):
        setup_of(asked, plan, ("evaluation",), Silent())
