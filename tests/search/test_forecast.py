"""Counts of a forecast, against searches whose scores are formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.forecast import COUNTED, Forecast, Part, Savings
from allocator.core.unit_costs import Lengths, Unit, UnitCosts
from allocator.search.counts import NOTHING, Done
from allocator.search.forecast import forecast
from allocator.search.propose import propose
from allocator.search.run import baselines
from evals.subsets import Subsets
from tests.searches import asked_for, runs, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec

# as `search_of` has them; every candidate counts as new
SETS: dict[Any, int] = {"calibration": 80, "search": 400, "evaluation": 500}
ALL_NEW = Savings(new=1.0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


def counted(asked: StudySpec, toy: ModelSpec, done: Done = NOTHING) -> Forecast:
    return forecast(asked, toy, SETS, done, ALL_NEW)


def of(found: Forecast, *names: str) -> tuple[float, float]:
    """Samples scored and looked at in some parts."""
    parts = [part for part in found.parts if part.name in names]
    return sum(p.scored for p in parts), sum(p.looked for p in parts)


def test_baselines_are_counted_as_they_are_measured(toy: ModelSpec, url: str) -> None:
    # all of the fake samples show one picture, so that there are no parts of them
    asked = asked_for(race=False)
    search = search_of(toy, url, asked)
    baselines(search)
    done = runs(search)
    scored = sum(count for kind, _, count in done if kind == "score")
    looked = sum(count for kind, _, count in done if kind == "divergence")
    found = of(counted(asked, toy), "full precision", "baselines", "rivals")
    # beside: what full precision is compared with, 32 and 128, and 8 that are checked;
    # of the two rivals one is a uniform allocation here
    assert found == (scored + 400, looked + 32 + 128 + 8 + 160)


@pytest.mark.parametrize(
    ("strategy", "rungs"), [("random", True), ("evolution", False)]
)
def test_proposals_are_counted_as_they_are_made(
    toy: ModelSpec, url: str, strategy: str, rungs: bool
) -> None:
    asked = asked_for(trials=4, strategy=strategy, rungs=rungs)
    search = search_of(toy, url, asked)
    baselines(search)
    before = len(runs(search))
    propose(search)
    done = runs(search)[before:]
    scored = sum(count for kind, _, count in done if kind == "score")
    looked = sum(count for kind, _, count in done if kind == "divergence")
    assert of(counted(asked, toy), "search") == (scored, looked)


def test_races_are_counted_as_if_every_candidate_were_new(
    toy: ModelSpec, url: str
) -> None:
    asked = asked_for(trials=12, strategy="evolution")
    search = search_of(toy, url, asked)
    baselines(search)
    before = search.bench.cost.copy()
    propose(search)
    made = search.bench.cost - before
    scored, looked = of(counted(asked, toy), "search")
    # a set of 400 has no rung of scores: controls after 2, 4, 6, 8 and 10 proposals,
    # of four each; seven races of 16 candidates, of whom 8 go on
    assert looked == 7 * (16 * 32 + 8 * 128) + 5 * 4 * 160
    assert scored == made.scored == 12 * 400
    # a few candidates were looked at before
    assert 0.7 * looked <= made.looked <= looked


def test_replies_that_are_references_are_counted_once(toy: ModelSpec) -> None:
    asked = asked_for()
    plain, itself = (counted(asked, toy, Done(references=n)) for n in (None, 980))
    assert of(plain, "references") == (0, 0)
    assert of(itself, "references") == (980, 0)
    # full precision is not asked again on the search set, nor on the evaluation set
    full, known = (of(each, "full precision") for each in (plain, itself))
    assert full[0] - known[0] == 400 + 250
    assert full[1] == known[1]
    ends = [of(each, "confirmation")[0] for each in (plain, itself)]
    assert ends[0] - ends[1] == 250
    # what is known from before is not asked at all
    again = counted(asked, toy, Done(references=0))
    assert of(again, "references", "full precision") == (0, full[1])


def test_what_a_study_has_is_not_counted_again(toy: ModelSpec) -> None:
    asked = asked_for(trials=4)
    done = Done(
        full=True,
        uniform=4,
        rivals=2,
        probed=1000,
        made=4,
        solved=dict.fromkeys(asked.methods, toy.weights),
    )
    found = counted(asked, toy, done)
    left = {p.name for p in found.parts if any(p.to_json()[k] for k in COUNTED)}
    assert left == {"finalists", "confirmation", "divergence"}
    assert sum(found.total.solved.values()) == 0


def test_seconds_are_counts_times_what_one_takes(toy: ModelSpec) -> None:
    found = Forecast(
        (
            Part("bank", gathered=10.0, solved={"gptq": 10.0}),
            Part("search", scored=100.0, looked=50.0, swapped=1000.0, proposals=2.0),
            Part("search", tuned=10.0),
        ),
        toy.weights,
        Savings(encoded_scored=0.5, encoded_looked=0.2, looked=0.5),
    )
    lengths = Lengths(vision=9, connector=4, prompt=20, picture=15, reply=2)
    one = Unit(1.0)
    units = UnitCosts(
        picture=Unit(10.0),
        prompt=one,
        reply=Unit(5.0),
        look=Unit(3.0),
        gradient=one,
        swap=Unit(0.01),
        gather=Unit(2.0),
        solve={"gptq": Unit(7.0)},
        finalize=one,
        tune=Unit(4.0),
        proposal=Unit(6.0),
        start=Unit(8.0),
    )
    # scored: half a picture, 20 tokens, 2 of a reply; looked: a fifth, half of 20, 3
    search = 100 * (5 + 20 + 10) + 50 * (2 + 10 + 3) + 10 + 12 + 40
    assert found.seconds(units, lengths) == {"other": 8, "bank": 90, "search": search}
    assert found.tokens(lengths) == {
        "vision": (50 + 10) * 9,
        "connector": (50 + 10) * 4,
        "language": 100 * 22 + 50 * 10,
    }


def test_questions_of_a_picture_share_its_tokens() -> None:
    lengths = Lengths(
        vision=577, connector=576, prompt=620, picture=580, reply=2, questions=5
    )
    assert lengths.branched == 580 / 5 + 40


@pytest.mark.parametrize(
    ("evaluation", "races", "sizes"),
    [
        (2_000, True, [500, 1_000, 2_000]),
        (21_435, True, [1_340, 2_679, 5_359, 10_718, 21_435]),
        (400, True, [400]),
        (2_000, False, [2_000]),
    ],
)
def test_parts_of_the_evaluation_set_are_those_of_the_race(
    toy: ModelSpec, evaluation: int, races: bool, sizes: list[int]
) -> None:
    sets = {**SETS, "evaluation": evaluation}
    found = forecast(asked_for(), toy, sets, savings=Savings(races=races))
    # each picture with one question
    if races:
        own = Subsets.of(range(evaluation)).sizes
        assert all(abs(a - b) <= 1 for a, b in zip(own, sizes, strict=True))
    full = next(part for part in found.parts if part.name == "full precision")
    assert full.scored == 400 + sizes[0]


def test_a_race_scores_a_third_of_what_all_contenders_would_take(
    toy: ModelSpec,
) -> None:
    sets = {**SETS, "evaluation": 21_435}
    raced, whole = (
        forecast(asked_for(race=race), toy, sets).parts[-2].scored
        for race in (True, False)
    )
    # full precision and two contenders see everything
    assert 2 * 21_435 < raced < whole / 2
