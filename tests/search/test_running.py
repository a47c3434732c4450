from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState

from allocator.core.allocation import Choice
from allocator.core.errors import NotReachedError
from allocator.core.records import BASELINES
from allocator.core.study import StudySpec
from allocator.search import run as searching
from allocator.search.run import baselines, conclude, finished
from allocator.search.shipped import Shipped
from allocator.space.even_mix import even_mix
from allocator.study.looks import DIVERGENCE, SCORE
from tests.searches import (
    FakeBench,
    asked_for,
    divergence,
    fake_weights,
    runs,
    score,
    search_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


def stop(allocation: Allocation, samples: object) -> None:
    del allocation, samples
    raise KeyboardInterrupt


def test_a_measurement_is_kept_with_what_was_seen_of_it(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for())
    allocation = search.setup.space.smallest
    search.look_at(allocation)
    search.measure(allocation, "proposal", {"predicted score": 1.0})
    (record,) = search.records
    assert (record.score, record.kind) == (score(allocation), "proposal")
    assert (record.budget, record.applied) == (
        search.goal.name,
        search.bench.applied(allocation),
    )
    (entry,) = search.journal.entries(search.setup.space)
    names = (DIVERGENCE, "predicted")
    seen = {k: v for k, v in entry.about.items() if k.startswith(names)}
    assert seen == {
        "divergence on 32 samples": divergence(allocation),
        "divergence on 128 samples": divergence(allocation),
        "predicted score": 1.0,
    }


def test_baselines_belong_to_no_goal(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for())
    baselines(search)
    assert {record.budget for record in search.records} == {None}
    assert search.made == 0
    # at 5 bits 2 and 4 bits fit, by two methods each; a mix of 4 and 8 is the optimum
    kinds = [record.kind for record in search.records]
    assert kinds == ["full", *["uniform"] * 4, "even_mix"]
    assert set(kinds) <= set(BASELINES)


def test_samples_and_allocations_run_on_are_counted(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for())
    baselines(search)
    # six baselines: looks at 32 and 128, 400 of the search set; full precision on the
    # evaluation set as well
    wanted = 6 * (32 + 128 + 400) + 500
    assert search.evaluated == wanted
    assert len(search.seen) == 6
    baselines(search)
    assert search.evaluated == wanted
    assert sum(count for _, _, count in runs(search)) == search.evaluated


def test_a_set_of_few_samples_has_fewer_rungs(toy: ModelSpec, url: str) -> None:
    sizes = {
        count: [
            size
            for _, size, _ in search_of(
                toy, url, asked_for(), searched=count
            ).rungs.ladder
        ]
        for count in (63, 64, 255, 256, 511, 512)
    }
    # a rung is at most half of the set
    few, more, all_ = [32], [32, 128], [32, 128, 256]
    assert sizes == {63: [], 64: few, 255: few, 256: more, 511: more, 512: all_}


def test_without_rungs_nothing_is_looked_at(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for(rungs=False))
    baselines(search)
    assert {kind for kind, _, _ in runs(search)} == {"score"}
    assert {count for _, _, count in runs(search)} == {400, 500}


def test_looks_are_on_few_samples_and_scores_too(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for())
    allocation = search.setup.space.smallest
    search.rungs.value(allocation, DIVERGENCE, 32)
    search.rungs.value(allocation, SCORE, 128)
    digest = allocation.digest
    assert runs(search) == [("divergence", digest, 32), ("score", digest, 128)]
    assert (search.evaluated, search.seen) == (160, {digest})


def test_a_measurement_that_is_interrupted_is_given_up_and_can_be_made_again(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for())
    space = search.setup.space
    search.measure(space.uniform[0], "uniform")
    usual, search.bench.score = search.bench.score, stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        search.measure(space.uniform[1], "uniform")
    states = [trial.state for trial in search.journal.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL]
    search.bench.score = usual  # type: ignore[method-assign]
    again = search_of(toy, url, asked_for())
    assert space.uniform[1].digest not in again.journal.taken(space)
    baselines(again)
    measured = [record.allocation for record in again.records]
    mix = even_mix(space, "awq")
    assert sorted(a.digest for a in measured) == sorted(
        a.digest for a in (space.full, *space.uniform[:4], mix)
    )


def test_an_evaluation_is_recalled_by_the_cells_that_were_in_place(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for())
    allocation = search.setup.space.smallest
    first = search.evaluate(allocation)
    assert first.mean == pytest.approx(score(allocation))
    again = search_of(toy, url, asked_for())
    assert again.evaluate(allocation) == first
    assert runs(again) == []
    # the same allocation under other weights is another measurement
    other = again.evaluate(allocation, FakeBench(bonus=2.0))  # type: ignore[arg-type]
    assert other.mean == pytest.approx(score(allocation) + 2)
    assert other.applied != first.applied


@pytest.mark.parametrize("bonus", [3.0, -3.0, 0.0])
def test_weights_quantized_in_sequence_count_where_they_are_better(
    toy: ModelSpec, url: str, bonus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_weights(monkeypatch, bonus)
    search = search_of(toy, url, asked_for())
    before = search.evaluate(search.setup.space.smallest)
    after = finished(search, before, Shipped(search))
    if bonus > 0:
        assert after.mean == pytest.approx(before.mean + 3)
        assert after.finalized == "of the weights"
    else:
        assert after == before


@pytest.mark.parametrize("options", [{"finalize": False}, {}])
def test_nothing_is_finalized_at_full_precision_or_against_the_wish(
    toy: ModelSpec, url: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "allocator.search.shipped.finalize",
        lambda *_, **__: pytest.fail("finalized"),
    )
    search = search_of(toy, url, asked_for(**options))
    space = search.setup.space
    measured = search.evaluate(space.smallest if options else space.full)
    assert finished(search, measured, Shipped(search)) == measured


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finalized weights that score as the bank's do; no importance is asked for."""
    fake_weights(monkeypatch)
    monkeypatch.setattr(searching, "strata", lambda *_: ())
    monkeypatch.setattr(searching, "importance_of", lambda *_: {})


@pytest.mark.usefixtures("unchanged")
def test_a_recommendation_counts_what_it_took(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for())
    baselines(search)
    better = search.setup.space.smallest.replace({"language.all.ff": Choice(4, "awq")})
    search.measure(better, "proposal", {"limit": 5.0})
    found = conclude(search)
    assert found.evaluated_samples == sum(count for _, _, count in runs(search))
    assert found.evaluated_allocations == len({digest for _, digest, _ in runs(search)})
    assert found.cost["scored"] + found.cost["looked"] == found.evaluated_samples
    assert (found.complete, found.pruned, found.failed) == (1, 0, 0)
    assert found.goal == "budget"
    assert found.budget_bpw == 5.0
    # the looks of baselines are nothing to judge looks by
    judged = {report.kind: report.count for report in found.rungs}
    assert judged == {"gradient-weighted errors": 1, "summed damage": 1}
    # the proposal is worse than what mixes 4 and 8 bits
    mix = even_mix(search.setup.space, "awq")
    assert found.allocation == mix
    assert {each.digest for each in found.rivals} == {mix.digest}
    assert [each.versus.mean for each in found.rivals] == [0, 0]


@pytest.mark.usefixtures("unchanged")
def test_the_smallest_that_keeps_the_score_is_recommended(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for(min_score=0.8))
    baselines(search)
    found = conclude(search)
    space = search.setup.space
    kept = [a for a in space.uniform if score(a) >= 0.8 * 90]
    smallest = min(kept, key=lambda a: (space.bpw(a), -score(a)))
    assert found.allocation == smallest
    assert found.budget_bpw == found.bpw == space.bpw(smallest)
    assert found.retained is not None
    assert found.retained.mean == pytest.approx(score(smallest) / 90)


@pytest.mark.usefixtures("unchanged")
def test_a_score_that_nothing_keeps_is_no_recommendation(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for(min_score=1.0))
    baselines(search)
    with pytest.raises(NotReachedError, match="nothing kept 100 %"):
        conclude(search)


def test_a_search_that_keeps_no_score_ends_with_exit_code_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from allocator.cli import search as cli

    def refuse(*_: object) -> None:
        raise NotReachedError("nothing kept 98 % of it")

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("allocator.search.estimate.estimate", lambda _: None)
    monkeypatch.setattr("allocator.bench.prepare.prepare", lambda *_, **__: None)
    monkeypatch.setattr("allocator.search.run.run_prepared", refuse)
    words = ("--min-score", "0.98", "--task", "vqav2", "--model", "tiny-llava")
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 3
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "allocate: nothing kept 98 % of it"


def test_the_request_that_is_kept_is_read_again(toy: ModelSpec, url: str) -> None:
    asked = asked_for(front=True)
    search = search_of(toy, url, asked)
    kept = search.journal.attribute("spec")
    assert StudySpec.read(kept) == asked
