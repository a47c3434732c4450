"""2,000 trials over a table, by a crew that loses one of its processes every second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak import check, soak

if TYPE_CHECKING:
    from pathlib import Path

# the table has 510 rows that differ, so it is gone through four times
TIMES, ROWS = 4, 500


@pytest.mark.slow
@pytest.mark.nightly
def test_two_thousand_trials_are_recorded_once_each(tmp_path: Path) -> None:
    for seed in range(TIMES):
        url = f"sqlite:///{tmp_path}/{seed}.db"
        found = soak(url, ROWS, tmp_path / str(seed), seed)
        check(found, ROWS)
        print(
            f"{ROWS} trials in {found.seconds:.0f} s, {found.kills} kills, {found.led} "
            f"of processes that led: {len(found.recorded)} recorded, "
            f"{len(found.reported)} reported by who recorded them"
        )
