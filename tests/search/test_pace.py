from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from allocator.core.watch import Silent
from allocator.search.pace import Pace, Paced


class Steps:
    """A clock that somebody moves on."""

    seconds = 0.0


def pace() -> tuple[Pace, Steps]:
    clock = Steps()
    seconds = {"bank": 10.0, "search": 60.0, "finalists": 20.0, "confirmation": 10.0}
    return Pace(seconds, clock), clock  # type: ignore[arg-type]


def test_before_anything_is_done_the_estimate_counts() -> None:
    own, clock = pace()
    assert own.left == 100
    clock.seconds = 4
    own.is_at("bank", 0.4)
    # 4 of 100 say nothing yet
    assert own.left == 96


@pytest.mark.parametrize(("taken", "left"), [(40, 60), (80, 120), (20, 30)])
def test_what_was_taken_scales_what_is_left(taken: float, left: float) -> None:
    own, clock = pace()
    # the bank and half of the search, 40 of 100
    assert own.is_at("search", 0.5)
    clock.seconds = taken
    assert own.left == pytest.approx(left)


def test_parts_that_were_passed_do_not_come_again() -> None:
    own, clock = pace()
    own.is_at("finalists", 0.5)
    clock.seconds = 80
    assert not own.is_at("search", 0.1)
    # nor is what nobody estimated a part
    assert not own.is_at("finalization", 0.1)
    assert own.left == pytest.approx(20)


def test_a_part_that_is_skipped_counts_as_done() -> None:
    own, clock = pace()
    own.is_at("confirmation", 0.0)
    clock.seconds = 45
    assert own.left == pytest.approx(5)


def test_the_time_left_is_noted_with_each_step() -> None:
    notes: list[str] = []

    class Noting(Silent):
        def phase(self, name: str) -> Any:
            assert name in ("search", "finalization")
            return nullcontext(lambda _done, _total, note="": notes.append(note))

    own, clock = pace()
    watch = Paced(Noting(), own)
    with watch.phase("search") as tell:
        clock.seconds = 80
        tell(10, 20, "best 90.00")
        tell(10, 20)
    with watch.phase("finalization") as tell:
        tell(1, 2)
    assert notes == [
        "best 90.00; about 2 min left in all",
        "about 2 min left in all",
        "",
    ]
