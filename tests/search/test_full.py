"""Full precision is measured first, and once; what makes no sense is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState

from allocator.bench.sense import Said
from allocator.core.errors import DataError, ModelError
from allocator.search.full import full_precision
from allocator.search.run import baselines
from tests.searches import FakeBench, asked_for, runs, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


def nothing(allocation: Allocation) -> float:
    del allocation
    return 0.0


def dead(allocation: Allocation) -> float:
    del allocation
    raise DataError("the model scores 0 on gqa at full precision")


def test_full_precision_is_measured_once_and_first(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for())
    full_precision(search)
    first = list(runs(search))
    full = search.setup.space.full.digest
    # looked at on 32 and 128 samples, then 400 of the search set, 500 of evaluation
    kinds = ["divergence"] * 2 + ["score"] * 2
    sizes = (32, 128, 400, 500)
    assert first == [(k, full, n) for k, n in zip(kinds, sizes, strict=True)]
    baselines(search)
    assert search.records[0].kind == "full"
    assert [run for run in runs(search) if run[1] == full] == first


@pytest.mark.parametrize("options", [{}, {"min_score": 0.98}, {"front": True}])
def test_a_score_of_nothing_is_refused_and_leaves_no_score(
    toy: ModelSpec, url: str, options: dict[str, object]
) -> None:
    search = search_of(toy, url, asked_for(**options), FakeBench(nothing))
    search.bench.said = {"vqav2": Said(400, 0, 0, 10, "rot", "red")}
    with pytest.raises(ModelError, match=r"scores 0 on vqav2 .* such as 'rot' where"):
        full_precision(search)
    assert [t.state for t in search.journal.study.trials] == [TrialState.FAIL]
    assert search.records == []
    # mended, the same study goes on
    again = search_of(toy, url, asked_for(**options))
    full_precision(again)
    assert [record.score for record in again.records] == [90.0]


def test_what_is_no_number_is_refused_before_anything_is_run(
    toy: ModelSpec, url: str
) -> None:
    bench = FakeBench(faulty="its weight w holds values that are infinite")
    search = search_of(toy, url, asked_for(), bench)
    with pytest.raises(ModelError, match="cannot work at full precision: its weight w"):
        full_precision(search)
    assert runs(search) == []
    assert search.journal.study.trials == []


def test_of_several_tasks_one_without_a_score_is_refused_with_its_replies(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for(), FakeBench(dead))
    search.bench.said = {"gqa": Said(400, 400)}
    with pytest.raises(DataError, match=r"on gqa .*gqa: all replies are empty; likely"):
        full_precision(search)
    assert [t.state for t in search.journal.study.trials] == [TrialState.FAIL]


def test_a_score_of_nothing_that_a_study_keeps_is_refused_too(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for(), FakeBench(nothing))
    # as a search of before kept it
    search.measure(search.setup.space.full, "full")
    with pytest.raises(ModelError, match="scores 0 at full precision on the search"):
        full_precision(search)


def test_a_negative_score_is_a_score_unless_a_share_of_it_is_wanted(
    toy: ModelSpec, url: str
) -> None:
    below = FakeBench(lambda _: -3.0)
    full_precision(search_of(toy, url, asked_for(), below))
    with pytest.raises(ModelError, match="scores -3 at full precision"):
        full_precision(search_of(toy, url, asked_for(min_score=0.9), below))


def test_what_is_odd_is_said(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for())
    search.bench.said = {"vqav2": Said(400, 0, 300, 10, "the red", "red")}
    full_precision(search)
    assert len(search.records) == 1
    (line,) = search.watch.said  # type: ignore[attr-defined]
    assert "300 of 400 replies are cut off at 10 tokens" in line
