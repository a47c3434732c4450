from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import NotReachedError
from allocator.search import deadline
from allocator.search.deadline import Deadline, Watched
from tests.search.test_deadline import (
    ONE,
    Taking,
    Ticking,
    Time,
    confirmed,
    searched,
)
from tests.search.test_deadline import time as time
from tests.search.test_deadline import url as url
from tests.searches import asked_for, search_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample
    from allocator.core.spec import ModelSpec


class Slowing(Taking):
    """A machine that others come to use after a while: all takes twice as long."""

    after = 0.0

    def score(self, allocation: Allocation, some: Sequence[Sample]) -> Any:
        self.time.now += ONE * len(some) * (self.time.now > self.after)
        return super().score(allocation, some)


@pytest.mark.parametrize("after", [450.0, 700.0])
def test_where_the_machine_slows_down_time_is_kept_all_the_same(
    toy: ModelSpec, url: str, time: Time, after: float
) -> None:
    bench = Slowing()
    bench.after = after
    search = searched(toy, url, time, 1700, trials=9, bench=bench)
    assert confirmed(search, time) <= 1.1 * 1700
    assert search.goal.best(search.records) is not None


def test_samples_take_as_long_as_the_latest_did_where_that_is_longer() -> None:
    clock: Any = Ticking(Time())
    found = Deadline(clock, 100.0)
    found.scored(31, 31.0)
    # too few to tell
    assert found.per_sample == 0
    found.scored(969, 969.0)
    assert found.per_sample == 1.0
    found.scored(deadline.LATEST, 3.0 * deadline.LATEST)
    assert found.per_sample == 3.0
    # what comes around batches counts too
    found.scored(0, 1.0 * deadline.LATEST)
    assert found.per_sample == 4.0
    found.scored(deadline.LATEST, 0.5 * deadline.LATEST)
    # 1,512 samples took 2,152 s
    assert found.per_sample == pytest.approx(2152 / 1512)


def test_what_may_be_left_out_is_given_up_when_time_is_needed(
    toy: ModelSpec, url: str, time: Time
) -> None:
    search = search_of(toy, url, asked_for(seconds=1000.0), Taking())
    clock: Any = Ticking(time)
    own = search.deadline = Deadline(clock, 1000.0, binding=False)
    own.scored(1000, 100.0)
    reached = []

    def work() -> bool:
        while time.now < 1000:
            time.now += 10
            own.check(search)
        return True

    assert own.attempt(work) is None
    # kept back are 15 % more than is needed, and a tenth of it all
    assert own.left == pytest.approx(1.15 * own.needed(search) + 60, abs=10)
    # outside of that nothing is given up
    own.check(search)

    def compared() -> bool:
        reached.append(own.finalizes(search))
        return work() if reached[-1] else True

    own._finalizes = True
    assert own.with_or_without(search, compared)
    assert reached == [True, False]


def test_a_part_that_cannot_end_in_time_ends_the_search_at_once(
    toy: ModelSpec, url: str, time: Time
) -> None:
    search = search_of(toy, url, asked_for(seconds=60.0))
    clock: Any = Ticking(time)
    search.deadline = Deadline(clock, 60.0)
    with Watched(search.watch, search).phase("bank") as tell:
        # 50 were there before; 10 of 50 take 6 s, and so all of them 30 s
        tell(50, 100)
        time.now = 6.0
        tell(60, 100)
        # 30 more at this pace take 42 s, and 32 s are left: later ones may be quicker
        time.now = 28.0
        tell(70, 100)
        # but not three times as quick
        time.now = 36.0
        with pytest.raises(NotReachedError, match="take about 54 s more"):
            tell(70, 100)
