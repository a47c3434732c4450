from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import NotReachedError
from allocator.search import deadline, running
from allocator.search.confirm import finalists_of
from allocator.search.deadline import Deadline, Watched, unevaluated
from allocator.search.leftover import settle
from allocator.search.propose import PROBED, prior, propose
from allocator.search.run import baselines
from tests.search.test_propose import Probed
from tests.searches import FakeBench, Told, asked_for, runs, search_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

# seconds that a sample takes here
ONE = 0.1
# five baselines on 400 samples of the search set and 500 of the evaluation set, with
# looks at 32 and 128 of each; and three more on the evaluation set
BASELINES = 5 * (400 + 500) * ONE
FINALISTS = 3 * 500 * ONE


class Time:
    """Time that passes where samples are run on."""

    now = 0.0


class Ticking:
    def __init__(self, time: Time) -> None:
        self.time, self.began = time, time.now

    @property
    def seconds(self) -> float:
        return self.time.now - self.began


class Taking(FakeBench):
    """A bench on which samples take time, and looks a third of it."""

    time: Time

    def score(self, allocation: Allocation, some: Sequence[Sample]) -> Any:
        self.time.now += ONE * len(some)
        return super().score(allocation, some)

    def divergence(
        self, allocation: Allocation, some: Sequence[Sample], ahead: Any = None
    ) -> float:
        self.time.now += ONE * len(some) / 3
        return super().divergence(allocation, some, ahead)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    for room in (running, deadline):
        monkeypatch.setattr(room, "Clock", lambda: Ticking(made))
    return made


def searched(
    toy: ModelSpec, url: str, time: Time, seconds: float, **options: Any
) -> Search:
    bench = options.pop("bench", None) or Taking()
    bench.time = time
    asked = asked_for(seconds=seconds, **options)
    search = search_of(toy, url, asked, bench)
    clock: Any = Ticking(time)
    search.deadline = Deadline(clock, seconds)
    baselines(search)
    search.deadline.binding = False
    propose(search)
    settle(search)
    return search


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


def confirmed(search: Search, time: Time) -> float:
    """Seconds from its beginning to the finalists' scores."""
    most = search.deadline.finalists(search)
    for record in finalists_of(search.goal, search.records, most):
        search.evaluate(record.allocation)
    return time.now


@pytest.mark.parametrize("seconds", [750, 1300])
def test_a_search_ends_within_its_time_with_something_to_recommend(
    toy: ModelSpec, url: str, time: Time, seconds: float
) -> None:
    search = searched(toy, url, time, seconds, trials=9)
    made = search.made
    assert confirmed(search, time) <= seconds
    best = search.goal.best(search.records)
    assert best is not None
    assert best.allocation.digest in search.confirmed
    # no time is wasted either: a proposal takes up to 250 s with its looks
    assert made == 9 or time.now > seconds - 310 - FINALISTS


def test_the_more_time_the_more_is_proposed(toy: ModelSpec, tmp_path: Path) -> None:
    made = []
    for seconds in (750, 1000, 1500):
        with pytest.MonkeyPatch.context() as patch:
            time = Time()
            for room in (running, deadline):
                patch.setattr(room, "Clock", lambda time=time: Ticking(time))
            url = f"{tmp_path}/{seconds}.log"
            made.append(searched(toy, url, time, seconds, trials=9).made)
    assert made[0] < made[1] < made[2] <= 9


@pytest.mark.parametrize("seconds", [60, 300, 550])
def test_too_little_time_ends_it_early_with_what_it_would_take(
    toy: ModelSpec, url: str, time: Time, seconds: float
) -> None:
    with pytest.raises(NotReachedError) as refused:
        searched(toy, url, time, seconds)
    assert refused.value.exit_code == 3
    said = str(refused.value)
    assert said.startswith(f"nothing can be recommended within --time {seconds:g}s: ")
    assert "two rivals and a finalist take about " in said
    needed = float(said.split("take about ")[1].split(" s more")[0])
    # full precision is measured, and says how long the others take
    left = BASELINES + FINALISTS - time.now
    assert needed == pytest.approx(left, abs=120)
    assert needed > seconds - time.now


def test_what_was_measured_is_gone_on_with_when_there_is_more_time(
    toy: ModelSpec, url: str, time: Time
) -> None:
    with pytest.raises(NotReachedError):
        searched(toy, url, time, 60)
    kept = search_of(toy, url, asked_for())
    assert [record.kind for record in kept.records] == ["full"]
    again = searched(toy, url, time, 2000)
    done = [
        size
        for _, digest, size in runs(again)
        if digest == kept.setup.space.full.digest
    ]
    assert 400 not in done


def test_finalists_are_fewer_where_time_is_short_and_the_best_is_among_them(
    toy: ModelSpec, url: str, time: Time
) -> None:
    search = searched(toy, url, time, 5000, trials=8)
    best = search.goal.best(search.records)
    assert len(search.goal.finalists(search.records)) == 5
    counts = []
    for left in (1, 60, 150, 250, 4000):
        search.deadline.seconds = search.deadline.clock.seconds + left
        most = search.deadline.finalists(search)
        listed = finalists_of(search.goal, search.records, most)
        assert listed[0] == best
        counts.append(len(listed))
    assert counts[0] == 1
    assert counts[-1] == 5
    assert counts == sorted(counts)


def test_a_race_needs_all_samples_of_three_and_a_part_of_the_others(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for(), evaluated=1_000)
    space = search.setup.space
    # parts of 250 and 500; four uniform allocations, two rivals, a finalist
    assert unevaluated(search) == 1_000 + 2 * 1_000 + 5 * 250
    search.evaluate(space.full, size=250)
    search.evaluate(space.smallest, size=250)
    assert unevaluated(search) == 750 + 750 + 1_000 + 5 * 250
    search.evaluate(space.full)
    search.evaluate(space.smallest)
    assert unevaluated(search) == 1_000 + 5 * 250
    plain = search_of(toy, url, asked_for(race=False), evaluated=1_000)
    assert unevaluated(plain) == 8 * 1_000


def test_a_search_without_a_limit_is_never_held_up(
    toy: ModelSpec, url: str, time: Time
) -> None:
    search = search_of(toy, url, asked_for())
    time.now = 1e9
    assert search.deadline.allows_step(search)
    assert search.deadline.finalizes(search)
    assert search.deadline.finalists(search) is None
    search.deadline.check(search)


def test_long_work_before_anything_is_scored_ends_at_the_limit(
    toy: ModelSpec, url: str, time: Time
) -> None:
    search = search_of(toy, url, asked_for(seconds=60.0))
    clock: Any = Ticking(time)
    search.deadline = Deadline(clock, 60.0)
    with Watched(search.watch, search).phase("bank") as tell:
        tell(1, 100)
        time.now = 61.0
        with pytest.raises(NotReachedError, match="and a finalist take longer"):
            tell(2, 100)


class Probing(Probed):
    """Probes that take a second each, and end where a process is killed."""

    time: Time
    last = 10**9

    def logits(
        self, allocation: Allocation, some: list[Sample], ahead: Any = None
    ) -> Any:
        if len(self.runs) >= self.last:
            raise KeyboardInterrupt
        self.time.now += 1
        return super().logits(allocation, some, ahead)


def probing(toy: ModelSpec, url: str, time: Time, **options: Any) -> Search:
    bench = Probing()
    bench.spec, bench.time = toy, time
    search = search_of(toy, url, asked_for(**options), bench)
    search.journal.set_attribute("damage", None)
    clock: Any = Ticking(time)
    search.deadline = Deadline(clock, search.setup.asked.seconds)
    return search


def test_probes_that_a_kill_interrupts_are_gone_on_with(
    toy: ModelSpec, tmp_path: Path, time: Time
) -> None:
    url, other = f"{tmp_path}/a.log", f"{tmp_path}/b.log"
    whole = probing(toy, other, time)
    wanted = prior(whole)
    assert wanted is not None
    search = probing(toy, url, time)
    bench: Any = search.bench
    bench.last = 9
    with pytest.raises(KeyboardInterrupt):
        prior(search)
    assert search.journal.damage(search.setup.space) is None
    again = probing(toy, url, time)
    assert prior(again) == wanted
    # full precision once more, and none of the eight that there were
    assert len(runs(again)) == 1 + len(wanted) - 8
    assert again.evaluated == PROBED * (1 + len(wanted) - 8)
    assert json.dumps(again.journal.attribute("damage so far")) == "null"


def test_probes_stop_in_time_and_are_kept(toy: ModelSpec, url: str, time: Time) -> None:
    search = probing(toy, url, time, seconds=10.0)
    assert prior(search) is None
    assert isinstance(search.watch, Told)
    (said,) = search.watch.said
    assert re.fullmatch("time limit reached after [0-9]+ of 54 probes", said)
    assert time.now <= 10.0
    done = len(runs(search)) - 1
    again = probing(toy, url, time)
    found = prior(again)
    assert found is not None
    assert len(runs(again)) == 1 + len(found) - done
