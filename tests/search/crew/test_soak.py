"""A crew that loses one of its processes every second loses nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak import check, soak

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_with_a_kill_every_second_nothing_is_lost_or_done_twice(
    tmp_path: Path,
) -> None:
    found = soak(f"sqlite:///{tmp_path}/studies.db", 150, tmp_path / "reports")
    check(found, 150)
    assert found.kills >= 2
