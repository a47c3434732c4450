"""A plan beside full precision: how often it says the same, and by how much not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.evaluate import evaluate_model
from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.bench.references import referred
from allocator.core.allocation import Choice
from allocator.core.errors import SpecError
from allocator.core.plan import plan_json
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from evals.metrics.agreement import UNIT, agreeing
from tests.itself import SIZES, ask_itself
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED = StudySpec(
    "4.0", "vqav2", model="tiny-llava", methods=("uniform",), calibration=8
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path, drawn_world):
        yield


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two bits everywhere."""
    ask_itself(monkeypatch)
    setup = prepare(ASKED)
    alike = setup.space.alike(Choice(2, "uniform"))
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan_json(ASKED, setup.model, alike)))
    return file


def test_without_answers_a_plan_is_scored_by_what_full_precision_says(
    plan: Path,
) -> None:
    found = evaluate_model({}, plan, Silent())
    setup = referred(prepare(ASKED), Silent())
    bench, samples = open_bench(setup, Silent()), setup.samples["evaluation"]
    two = setup.space.alike(Choice(2, "uniform"))
    said = bench.predictions(two, samples)
    same = agreeing(said, [each.references[0] for each in samples])
    assert found["score"] == pytest.approx(sum(same) / len(same))
    assert 0 < found["score"] < 100
    assert found["metric"] == UNIT
    assert found["details"] == {}
    assert found["divergence"]["samples"] == SIZES["evaluation"]
    assert found["divergence"]["nats"] > 0.1
    # its cells are those of a search
    assert found["applied"] == bench.applied(two)
    full = evaluate_model({"model": "tiny-llava", "task": "vqav2"}, None, Silent())
    assert (full["score"], full["ci95"]) == (100, [100, 100])


def test_beside_a_score_agreement_is_there_where_it_is_asked_for(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = evaluate_model({}, plan, Silent())
    ask_itself(monkeypatch, answers=True)
    plain = evaluate_model({}, plan, Silent())
    assert plain["divergence"] is None
    assert plain["details"] == {}
    found = evaluate_model({}, plan, Silent(), agreement=True)
    assert found["score"] == plain["score"]
    assert 0 < found["details"][UNIT] < 100
    assert found["divergence"]["samples"] == SIZES["evaluation"]
    # the bank is another one, as other replies have calibrated it, of the same grid
    assert found["details"][UNIT] == pytest.approx(wanted["score"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "tiny-llava", "task": "vqav2"}, "give --plan"),
        ({"model": "tiny-blip2", "task": "flickr30k"}, "give --plan"),
    ],
)
def test_agreement_of_no_plan_is_refused(options: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        evaluate_model(options, None, Silent(), agreement=True)


def test_agreement_of_rankings_is_refused(tmp_path: Path) -> None:
    asked = replace(ASKED, model="tiny-blip2", task="flickr30k", fraction=0.01)
    setup = prepare(asked, ())
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan_json(asked, setup.model, setup.space.full)))
    with pytest.raises(SpecError, match="counts replies, and flickr30k wants rankings"):
        evaluate_model({}, file, Silent(), agreement=True)
