from __future__ import annotations

import pytest

from allocator.core.account import Account, Accounted, no_account, peak_memory
from allocator.core.cost import Cost
from allocator.core.watch import Silent


class Steps:
    """A clock that somebody moves on."""

    seconds = 0.0


def account() -> Account:
    return Account(Cost(), Steps())  # type: ignore[arg-type]


def work(of: Account, seconds: float, scored: int) -> None:
    of.clock.seconds += seconds  # type: ignore[misc]
    of.cost.scored += scored
    of.cost.tokens["language"] += 10 * scored


def test_what_an_inner_part_does_is_not_the_outer_ones() -> None:
    own = account()
    work(own, 1, 5)
    with own.part("finalists"):
        work(own, 2, 10)
        with own.part("finalization"):
            work(own, 4, 20)
        work(own, 8, 40)
    with own.part("finalization"):
        work(own, 16, 80)
    found = own.to_json()
    assert found["seconds"] == {"other": 1, "finalists": 10, "finalization": 20}
    scored = {name: part["scored"] for name, part in found["parts"].items()}
    assert scored == {"other": 5, "finalists": 50, "finalization": 100}
    assert found["parts"]["finalists"]["tokens"]["language"] == 500
    # parts add up to the whole
    assert found["scored"] == 155
    assert found["tokens"] == {"vision": 0, "connector": 0, "language": 1550}


def test_a_part_that_fails_counts_as_well() -> None:
    own = account()

    def fail() -> None:
        with own.part("search"):
            work(own, 3, 7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    work(own, 1, 1)
    assert own.to_json()["seconds"] == {"search": 3, "other": 1}


def test_phases_that_are_watched_are_parts() -> None:
    own = account()
    with Accounted(Silent(), own).phase("bank") as tell:
        tell(0, 1)
        work(own, 2, 3)
    assert own.to_json()["seconds"]["bank"] == 2


def test_a_run_that_runs_nothing_has_the_same_keys() -> None:
    assert no_account().keys() == account().to_json().keys()
    assert set(no_account().values()) == {None}


def test_memory_is_counted_in_bytes() -> None:
    before = peak_memory()["host"]
    held = bytearray(64 * 2**20)
    held[:: 2**12] = b"1" * len(held[:: 2**12])
    # the interpreter alone takes megabytes, and no test takes terabytes
    assert before >= 2**22
    assert before <= peak_memory()["host"] <= 2**40
