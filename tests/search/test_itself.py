"""Whole searches of a task that the model itself answers, on an embedded model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench import references
from allocator.core.errors import NotReachedError
from allocator.core.study import StudySpec
from allocator.report.study import Study, load_recommended
from allocator.search.run import run
from evals.metrics.agreement import UNIT
from tests.itself import SIZES, ask_itself
from tests.searches import Told
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.core.records import Recommendation

pytestmark = pytest.mark.slow
ASKED = StudySpec(
    "4.0",
    "vqav2",
    model="tiny-llava",
    methods=("uniform",),
    widths=(2, 4, 8),
    trials=2,
    refine=False,
    tune=True,
    tune_steps=1,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("homes")
    with homes(folder, drawn_world), pytest.MonkeyPatch.context() as patch:
        ask_itself(patch)
        yield folder


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def found(home: Path, told: Told) -> Recommendation:
    del home
    return run(ASKED, told)


def test_a_search_without_answers_ends_in_a_recommendation(
    found: Recommendation, told: Told
) -> None:
    assert told.phases.count("references") == 1
    plain: dict[str, Any] = found.to_json()
    full, best = plain["full_precision"], plain["recommended"]
    assert (full["score"], full["ci95"]) == (100, [100, 100])
    assert plain["metric"] == UNIT
    assert max(u["score"] for u in plain["uniform"] if u["fits"]) <= best["score"] < 100
    assert best["divergence"]["samples"] == SIZES["evaluation"]
    assert best["divergence"]["nats"] > 0
    # the calibration, search and evaluation set, further samples that judge what is
    # tuned, and some that were asked again
    counted = plain["cost"]["parts"]["references"]["scored"]
    judges = SIZES["calibration"]
    assert counted == sum(SIZES.values()) + judges + SIZES["search"] // 2
    # full precision is not asked once more
    assert plain["cost"]["parts"]["full precision"]["scored"] == 0


def test_it_goes_on_where_all_that_can_be_made_again_is_gone(
    found: Recommendation, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(home / "cache-home" / "allocate" / "replies")
    shutil.rmtree(home / "cache-home" / "allocate" / "bank")
    monkeypatch.setattr(references, "_asked", None)
    again = run(ASKED, Told())
    assert (again.study, again.applied) == (found.study, found.applied)
    assert again.score == found.score
    study = Study.open(found.study)
    shutil.rmtree(home / "cache-home" / "allocate" / "replies")
    model, _ = load_recommended(study, {}, Told())
    assert model.training is False
    assert study.explain()


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("goal", [{"front": True}, {"min_score": 0.5}])
def test_other_goals_go_on_with_the_same_replies(goal: dict[str, Any]) -> None:
    told = Told()
    other = run(replace(ASKED, budget=None, finalize=False, **goal), told)
    assert "references" not in told.phases
    assert other.full_precision.mean == 100
    assert other.divergence is not None


def test_a_deadline_ends_the_asking_and_what_was_replied_is_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del home
    asked = replace(ASKED, seed=1, seconds=1e-3, finalize=False)
    with pytest.raises(NotReachedError):
        run(asked, Told())
    monkeypatch.setattr("allocator.search.deadline.Deadline.check_start", lambda _: 0)
    with pytest.raises(NotReachedError, match="the same command with more --time"):
        run(asked, Told())
    assert run(replace(asked, seconds=None), Told()).score.mean > 0
