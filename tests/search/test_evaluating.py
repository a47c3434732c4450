"""Scores on parts of the evaluation set: kept, grown, raced, on a bench of formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.ports import Score
from allocator.search import run as searching
from allocator.search.evaluating import full_replies
from allocator.search.propose import propose
from allocator.search.run import baselines, conclude
from allocator.study.journal import MEASURED
from allocator.study.per_sample import ORDER, PARTS
from evals.metrics.agreement import UNIT
from tests.searches import FakeBench, asked_for, fake_weights, runs, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

EVALUATED = 1_000
# its parts, of pictures of two
FIRST, SECOND = 250, 500


class Answering(FakeBench):
    """Scores each sample by its number, so that places can be told from scores."""

    last = 10**9

    def score(self, allocation: Allocation, some: Any) -> Score:
        if len(self.runs) >= self.last:
            raise KeyboardInterrupt
        mean = super().score(allocation, some).mean
        values = tuple(mean + int(each.id[1:]) % 7 for each in some)
        return Score(sum(values) / len(values), values)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


def opened(toy: ModelSpec, url: str, **options: Any) -> Search:
    return search_of(toy, url, asked_for(**options), Answering(), evaluated=EVALUATED)


def test_a_larger_part_asks_for_the_rest_alone(toy: ModelSpec, url: str) -> None:
    search = opened(toy, url)
    smallest = search.setup.space.smallest
    first = search.evaluate(smallest, size=FIRST)
    assert (first.samples, first.is_whole, len(first.seen)) == (FIRST, False, FIRST)
    # another process goes on with it
    again = opened(toy, url)
    assert again.looks == search.looks
    more = again.evaluate(smallest, size=SECOND)
    assert [size for _, _, size in runs(again)] == [FIRST]
    assert set(first.seen) < set(more.seen)
    whole = again.evaluate(smallest)
    assert [size for _, _, size in runs(again)] == [FIRST, SECOND]
    assert whole.is_whole
    # as if it had been asked for at once, sample by sample
    other = opened(toy, url.replace("studies", "other")).evaluate(smallest)
    assert whole.values == pytest.approx(other.values)
    for part in (first, more):
        wanted = [other.values[place] for place in part.seen]
        assert part.values == pytest.approx(wanted)
    assert again.evaluated == again.confirmed[smallest.digest] - FIRST == 750
    # what is known is not asked for again, nor is a part of it
    known = opened(toy, url)
    assert known.evaluate(smallest, size=FIRST) == known.evaluate(smallest) == whole
    assert runs(known) == []


def test_what_was_replied_is_forgotten_once_everything_is_scored(
    toy: ModelSpec, url: str
) -> None:
    search = opened(toy, url)
    smallest = search.setup.space.smallest
    applied = search.evaluate(smallest, size=FIRST).applied
    assert len(search.journal.attribute(PARTS + applied)["replies"]) == FIRST
    assert search.journal.attribute(MEASURED + applied) is None
    search.evaluate(smallest)
    assert search.journal.attribute(PARTS + applied) is None
    assert len(search.journal.attribute(MEASURED + applied)["values"]) == EVALUATED


def test_a_part_that_overflows_is_a_failure_at_once(toy: ModelSpec, url: str) -> None:
    search = opened(toy, url)
    bench: Any = search.bench
    bench.scored = lambda _: float("nan")
    found = search.evaluate(search.setup.space.smallest, size=FIRST)
    assert found.failed
    assert search.evaluate(search.setup.space.smallest) == found
    assert len(runs(search)) == 1


@pytest.mark.parametrize(
    "options",
    [{"race": False}, {"front": True}, {"min_score": 0.9}, {"ranks": True}],
)
def test_what_does_not_race_has_one_part(
    toy: ModelSpec, url: str, options: dict[str, Any]
) -> None:
    ranks = options.pop("ranks", False)
    search = opened(toy, url, **options)
    if ranks:
        search.setup.task.needs = "ranking"  # type: ignore[misc]
        search.__post_init__()
    assert search.looks.sizes == (EVALUATED,)
    # the order is the study's all the same, for what another search left
    assert search.looks.places(EVALUATED) == tuple(range(EVALUATED))


class Talking(Answering):
    """Replies in words: of every sample whose number 4 divides something else."""

    def predictions(self, allocation: Allocation, some: Any) -> list[Any]:
        self.score(allocation, some)
        is_full = all(choice.bits == 16 for _, choice in allocation)
        return [
            "Yes." if is_full or int(each.id[1:]) % 4 else f"{allocation.digest}"
            for each in some
        ]

    def score_of(self, allocation: Any, said: Any, some: Any, whole: Any) -> Score:
        del whole
        assert len(said) == len(some)
        return super().score(allocation, some)


def test_how_many_replies_are_those_of_full_precision_is_kept_beside_a_score(
    toy: ModelSpec, url: str
) -> None:
    def opened_again() -> Search:
        asked = asked_for()
        return search_of(toy, url, asked, Talking(), evaluated=EVALUATED)

    search = opened_again()
    full, smallest = search.setup.space.full, search.setup.space.smallest
    # of a study of before nobody knows
    assert UNIT not in search.evaluate(search.setup.space.uniform[1]).details
    search.evaluate(full, size=FIRST)
    part = search.evaluate(smallest, size=FIRST)
    share = sum(place % 4 > 0 for place in part.seen) / FIRST
    assert part.details == {UNIT: pytest.approx(100 * share)}
    again = opened_again()
    assert again.evaluate(full).details == {UNIT: 100}
    assert len(full_replies(again)) == EVALUATED
    assert again.evaluate(smallest).details == {UNIT: pytest.approx(75)}


def concluded(toy: ModelSpec, url: str, **options: Any) -> tuple[Search, Any]:
    search = opened(toy, url, **options)
    baselines(search)
    propose(search)
    return search, conclude(search)


@pytest.fixture
def finalized(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_weights(monkeypatch, 0.5)
    monkeypatch.setattr(searching, "strata", lambda *_: ())
    monkeypatch.setattr(searching, "importance_of", lambda *_: {})


@pytest.mark.usefixtures("finalized")
@pytest.mark.parametrize("finalize", [True, False])
def test_a_search_scores_what_cannot_win_on_a_part(
    toy: ModelSpec, tmp_path: Path, finalize: bool
) -> None:
    options = {"finalize": finalize, "trials": 4}
    search, found = concluded(toy, f"{tmp_path}/a.log", **options)
    raced, whole = search.evaluated, found.to_json()
    assert raced == sum(size for _, _, size in runs(search))
    assert whole["recommended"]["samples"] == EVALUATED
    assert whole["full_precision"]["samples"] == EVALUATED
    counts = [each["samples"] for each in whole["uniform"] if each["fits"]]
    assert FIRST in counts
    shown = [each["score"] for each in (*whole["uniform"], *whole["rivals"])]
    assert max(each for each in shown if each is not None) <= found.score.mean
    # each sample differs by the same between two: a part tells all of it
    search, plain = concluded(toy, f"{tmp_path}/b.log", race=False, **options)
    assert search.evaluated > raced
    told = plain.to_json()
    assert {e["samples"] for e in told["uniform"] if e["fits"]} == {EVALUATED}
    assert whole["recommended"]["digest"] == told["recommended"]["digest"]
    for one, other in zip(whole["uniform"], told["uniform"], strict=True):
        assert one["score"] == pytest.approx(other["score"])
    if finalize:
        evaluated = {e["evaluated"] for e in whole["finalists"]}
        assert EVALUATED in evaluated


@pytest.mark.usefixtures("finalized")
def test_another_budget_scores_nothing_twice(toy: ModelSpec, url: str) -> None:
    first, _ = concluded(toy, url, trials=4)
    second, found = concluded(toy, url, trials=4, budget="4.5")
    assert found.bpw <= 4.5
    done: dict[str, int] = {}
    for _, digest, size in (*runs(first), *runs(second)):
        if size in (FIRST, SECOND, 750, EVALUATED):
            done[digest] = done.get(digest, 0) + size
    # no more than everything by each of two kinds of weights
    assert max(done.values()) <= 2 * EVALUATED
    full = first.setup.space.full.digest
    assert full not in {digest for _, digest, _ in runs(second)}


@pytest.mark.usefixtures("finalized")
def test_a_kill_loses_nothing_of_a_race(toy: ModelSpec, tmp_path: Path) -> None:
    wanted = concluded(toy, f"{tmp_path}/a.log", trials=3)[1].to_json()
    search = opened(toy, f"{tmp_path}/b.log", trials=3)
    baselines(search)
    propose(search)
    bench: Any = search.bench
    bench.last = len(bench.runs) + 9
    with pytest.raises(KeyboardInterrupt):
        conclude(search)
    again, found = concluded(toy, f"{tmp_path}/b.log", trials=3)
    told = found.to_json()
    for key in ("recommended", "uniform", "rivals", "finalists"):
        assert told[key] == wanted[key]
    assert {kind for kind, _, _ in runs(again)} <= {"score", "divergence"}


@pytest.mark.usefixtures("finalized")
def test_a_study_of_before_is_gone_on_with(toy: ModelSpec, url: str) -> None:
    _, before = concluded(toy, url, race=False, trials=3)
    journal = opened(toy, url).journal
    journal.set_attribute(ORDER, None)
    again, found = concluded(toy, url, trials=3)
    assert runs(again) == []
    assert found.score == before.score
    counts = {e["samples"] for e in found.to_json()["uniform"] if e["fits"]}
    assert counts == {EVALUATED}
