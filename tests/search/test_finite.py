"""Nothing that is no finite number ends a search, wherever it leaves the model."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from optuna.trial import TrialState

from allocator.bench import probes
from allocator.core.errors import BankError, ModelError, NotReachedError
from allocator.search import run as searching
from allocator.search.full import full_precision
from allocator.search.propose import known_of, prior, propose
from allocator.search.run import baselines, conclude
from allocator.study.entry import REASON
from allocator.study.journal import DAMAGE
from allocator.study.making import kept_with
from tests.searches import (
    FakeBench,
    asked_for,
    damage_of,
    fake_weights,
    runs,
    search_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample, Score
    from allocator.core.records import Recommendation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

NONE = (math.nan, math.inf, -math.inf)
SEARCH, EVALUATION = 400, 500
BONUS = 0.5
FINALIZED = ("finalized", BONUS)


def overflows(allocation: Allocation) -> bool:
    """Two bits in language are too few for half precision, so to say."""
    return any(k.startswith("language") and c.bits == 2 for k, c in allocation)


@dataclass
class Broken(FakeBench):
    """Gives no numbers at some place; where it does, each of the three in turn."""

    place: str = ""

    def __post_init__(self) -> None:
        self.none = cycle(NONE)

    def divergence(
        self, allocation: Allocation, some: Sequence[Sample], ahead: Any = None
    ) -> float:
        found = super().divergence(allocation, some, ahead)
        broken = self.place == f"divergence on {len(some)}" and overflows(allocation)
        return next(self.none) if broken else found

    def score(self, allocation: Allocation, some: Sequence[Sample]) -> Score:
        found = super().score(allocation, some)
        if not overflows(allocation):
            return found
        bad, size = next(self.none), len(some)
        values = found.values
        if self.place == f"score on {size}" or (self.place, self.bonus) == FINALIZED:
            values = (bad,) * size
        elif self.place == f"a sample of {size}":
            values = (*values[1:], bad)
        elif self.place == f"a figure beside {size}":
            return replace(found, details={"BLEU-4": bad})
        return replace(found, mean=sum(values) / size, values=values)


PLACES = (
    *("damage", "divergence on 32", "divergence on 128", "score on 256"),
    *("score on 400", "a sample of 400", "score on 500", "a sample of 500"),
    *("a figure beside 500", "finalized"),
)
FITTED = ("damage", "divergence on 128", "score on 256", "score on 400")
FAILS = ("score on 400", "a sample of 400")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finalized weights that are better; no importance is asked for."""
    fake_weights(monkeypatch, BONUS)
    monkeypatch.setattr(searching, "strata", lambda *_: ())
    monkeypatch.setattr(searching, "importance_of", lambda *_: {})


def searched(
    toy: ModelSpec, url: str, bench: FakeBench, **options: Any
) -> tuple[Search, Recommendation]:
    """A whole search, but for the model."""
    asked = asked_for(**options)
    search = search_of(toy, url, asked, bench)
    if getattr(bench, "place", "") == "damage":
        # as a study of before keeps it
        table = {}
        for (key, choice), value in damage_of(search.setup.space).items():
            bad = key.startswith("language") and choice.bits == 2
            none = next(bench.none) if bad else value  # type: ignore[attr-defined]
            table.setdefault(key, {})[str(choice)] = none
        search.journal.set_attribute(DAMAGE, table)
    baselines(search)
    propose(search)
    return search, conclude(search)


def said(search: Search) -> list[str]:
    lines: list[str] = search.watch.said  # type: ignore[attr-defined]
    return lines


@pytest.mark.parametrize("place", PLACES)
def test_a_search_comes_to_a_recommendation_and_keeps_only_numbers(
    toy: ModelSpec, url: str, place: str
) -> None:
    # the one that fits trees to what it knows, where that is what is broken
    strategy = "surrogate" if place in FITTED else "evolution"
    search, found = searched(toy, url, Broken(place=place), strategy=strategy)
    assert search.made == 3
    # the best that does without is known to be better
    told = json.dumps(found.to_json(), allow_nan=False)
    assert found.score.mean > 50
    if place != "damage":
        json.dumps(kept_with(search.journal.study), allow_nan=False)
    for trial in search.journal.study.trials:
        json.dumps({**trial.user_attrs, **trial.system_attrs}, allow_nan=False)
        assert trial.value is None or math.isfinite(trial.value)
    # asked again, nothing is left to do, and the outcome is the same
    again, same = searched(toy, url, Broken(), strategy=strategy)
    assert [run for run in runs(again) if run[0] != "score" or run[2] != 500] == []
    assert same.allocation == found.allocation
    assert told


@pytest.mark.parametrize("place", FAILS)
def test_a_score_that_is_none_fails_its_trial_for_good_with_the_reason(
    toy: ModelSpec, url: str, place: str
) -> None:
    search, found = searched(toy, url, Broken(place=place))
    space, trials = search.setup.space, search.journal.study.trials
    failed = [t for t in trials if t.state == TrialState.FAIL]
    count = {"score on 400": 400, "a sample of 400": 1}[place]
    assert failed
    for trial in failed:
        reason = trial.user_attrs[REASON]
        such = "s0" if count == 400 else "s399"
        assert reason == (
            f"scores no finite number on {count} of 400 samples, such as {such}"
        )
    # both uniform allocations of two bits; they have no score to show
    two = [u for u in found.uniform if u.choice.bits == 2]
    assert [(u.fits, u.score) for u in two] == [(True, None)] * 2
    assert {r.allocation.digest for r in search.records}.isdisjoint(
        u.digest for u in two
    )
    assert search.journal.failures(space).keys() >= {u.digest for u in two}
    assert "the uniform allocation 2/uniform scores no finite number" in said(search)[0]
    # strategies hear of them as no better than the worst of what they know
    known = known_of(search, space)
    worst = min(score for _, score in (*known.measured, *known.estimated))
    told = {a.digest: score for a, score in known.estimated}
    assert {told[digest] for digest in search.journal.failures(space)} == {worst}
    # not measured anew
    again, _ = searched(toy, url, Broken(place=place))
    assert runs(again) == []


def test_a_front_leaves_a_size_at_which_nothing_has_a_score(
    toy: ModelSpec, url: str
) -> None:
    # random proposals, as most of the smallest ones overflow
    options = {"front": True, "strategy": "random", "trials": 12, "rungs": False}
    asked = asked_for(**options)
    search = search_of(toy, url, asked, Broken(place="score on 400"))
    baselines(search)
    propose(search)
    entries = search.journal.entries(search.setup.space)
    own = [e for e in entries if e.about["kind"] == "proposal"]
    assert len(own) == 12
    lost = Counter(e.about["limit"] for e in own if e.failure)
    assert max(lost.values()) == 3
    assert len({e.about["limit"] for e in own}) > 3


def test_an_evaluation_that_is_none_is_told_once_and_never_chosen(
    toy: ModelSpec, url: str
) -> None:
    search, found = searched(toy, url, Broken(place="score on 500"))
    assert any("2/awq scores no finite number on 500" in line for line in said(search))
    assert not overflows(found.allocation)
    again, same = searched(toy, url, Broken(place="score on 500"))
    assert runs(again) == []
    assert same.allocation == found.allocation


@pytest.mark.parametrize("size", [SEARCH, EVALUATION])
def test_where_no_uniform_allocation_has_a_score_there_is_nothing_to_compare_to(
    toy: ModelSpec, url: str, size: int
) -> None:
    class Narrow(FakeBench):
        def score(self, allocation: Allocation, some: Sequence[Sample]) -> Score:
            found = super().score(allocation, some)
            bad = len(some) == size and {c.bits for _, c in allocation} == {2}
            return replace(found, mean=math.nan) if bad else found

    # of the uniform ones those of 2 bits alone fit, at 2.8 bits per weight
    search, found = searched(toy, url, Narrow(), budget="4.5", finalize=False)
    assert {u.choice.bits for u in found.uniform if u.fits} == {2}
    assert found.versus is None
    assert found.best_uniform is None
    assert not found.is_uniform
    told = found.to_json()["recommended"]["vs_best_uniform"]
    assert told == {"difference": None, "ci95": None}
    assert searching.in_short(found)["over the best uniform allocation"] == (
        "none of these has a score"
    )
    assert search.made == 3


def test_where_nothing_has_a_score_it_is_said(toy: ModelSpec, url: str) -> None:
    class Never(FakeBench):
        def score(self, allocation: Allocation, some: Sequence[Sample]) -> Score:
            found = super().score(allocation, some)
            low = any(choice.bits < 16 for _, choice in allocation)
            return replace(found, mean=math.nan) if low else found

    with pytest.raises(NotReachedError, match="nothing that fits has a score"):
        searched(toy, url, Never())


@pytest.mark.parametrize("value", NONE)
@pytest.mark.parametrize("size", [SEARCH, EVALUATION])
def test_full_precision_that_is_none_is_refused_and_tried_again(
    toy: ModelSpec, url: str, size: int, value: float
) -> None:
    class Dead(FakeBench):
        def score(self, allocation: Allocation, some: Sequence[Sample]) -> Score:
            found = super().score(allocation, some)
            bad = len(some) == size
            return replace(found, mean=value) if bad else found

    search = search_of(toy, url, asked_for(), Dead())
    with pytest.raises(ModelError, match="at full precision"):
        full_precision(search)
    mended = search_of(toy, url, asked_for())
    full_precision(mended)
    assert [record.score for record in mended.records] == [90.0]


@pytest.mark.parametrize(
    "error",
    [
        ModelError("language.0.ff: calibration activations are infinite"),
        BankError("the finalized weights take 4.0 GB and only 1.0 GB is free"),
        OSError(28, "No space left on device"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_a_finalization_that_fails_leaves_the_banks_weights_in_place(
    toy: ModelSpec, url: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("allocator.search.shipped.finalize", fails)
    search, found = searched(toy, url, FakeBench())
    assert found.finalized is None
    assert found.applied == search.bench.applied(found.allocation)
    lines = [line for line in said(search) if "keeps the bank's weights" in line]
    assert lines
    assert all("\n" not in line for line in lines)


def test_the_prior_of_a_search_is_kept_as_numbers(
    toy: ModelSpec, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = search_of(toy, url, asked_for())
    search.journal.set_attribute(DAMAGE, None)
    table = damage_of(search.setup.space)
    bad = dict.fromkeys((at for at in table if at[1].bits == 2), math.nan)
    monkeypatch.setattr(probes, "damages", lambda *_: {**table, **bad})
    prior(search)
    json.dumps(search.journal.attribute(DAMAGE), allow_nan=False)
