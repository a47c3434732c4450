"""Counts of a forecast, against searches whose scores are formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.forecast import Forecast, Savings
from allocator.core.unit_costs import Lengths, Unit, UnitCosts
from allocator.search.forecast import Done, forecast
from allocator.search.propose import propose
from allocator.search.run import baselines
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


def counted(asked: StudySpec, toy: ModelSpec, done: Done = Done()) -> Forecast:
    return forecast(asked, toy, SETS, done, ALL_NEW)


def of(found: Forecast, *names: str) -> tuple[float, float]:
    """Samples scored and looked at in some parts."""
    parts = [part for part in found.parts if part.name in names]
    return sum(p.scored for p in parts), sum(p.looked for p in parts)


def test_baselines_are_counted_as_they_are_measured(toy: ModelSpec, url: str) -> None:
    search = search_of(toy, url, asked_for())
    baselines(search)
    done = runs(search)
    scored = sum(count for kind, _, count in done if kind == "score")
    looked = sum(count for kind, _, count in done if kind == "divergence")
    found = of(counted(asked_for(), toy), "full precision", "baselines", "rivals")
    # beside: what full precision is compared with, 32 and 128, and 8 that are checked;
    # of the two rivals one is a uniform allocation here
    assert found == (scored + 900, looked + 32 + 128 + 8 + 160)


def test_proposals_are_counted_as_they_are_made(toy: ModelSpec, url: str) -> None:
    asked = asked_for(trials=4, strategy="random")
    search = search_of(toy, url, asked)
    baselines(search)
    before = len(runs(search))
    propose(search)
    done = runs(search)[before:]
    scored = sum(count for kind, _, count in done if kind == "score")
    looked = sum(count for kind, _, count in done if kind == "divergence")
    assert of(counted(asked, toy), "search") == (scored, looked)
