from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.search.finals import REFINED, Contender, Finals, entered
from allocator.search.propose import propose
from allocator.search.refine import BATCH, ERROR, KEPT, ROUNDS, kept, refine
from allocator.search.rivals import rivals
from allocator.search.run import baselines, conclude
from tests.search.finals import ending, fake_tables, lost, paired_linears
from tests.searches import fake_weights, runs

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search


@pytest.fixture
def spec() -> ModelSpec:
    return paired_linears()


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fake_tables(monkeypatch)
    return fake_weights(monkeypatch, 0.5)


def begun(spec: ModelSpec, folder: Path, **options: Any) -> Search:
    search = ending(spec, folder, **{"refine": True, **options})
    baselines(search)
    propose(search)
    return search


def refined(search: Search) -> Finals:
    finals = entered(search, rivals(search, search.setup.space))
    finals.race()
    refine(finals)
    return finals


def total(spec: ModelSpec, allocation: Allocation) -> float:
    return sum(lost(*each) for each in allocation.of_linears(spec).items())


def test_single_linears_gain_over_their_groups_within_the_budget(
    spec: ModelSpec, tmp_path: Path
) -> None:
    search = begun(spec, tmp_path)
    finals = refined(search)
    (found,) = [each for each in finals.contenders if REFINED in each.kinds]
    others = [each for each in finals.contenders if each is not found]
    assert found.allocation.layers
    assert search.setup.space.fits(found.allocation)
    assert total(spec, found.allocation) < min(
        total(spec, c.allocation) for c in others
    )
    assert finals.last()[0] is found
    # where it began takes part as well, unless it is surely worse
    assert conclude(search).allocation == found.allocation


def test_pins_are_kept_by_single_linears(spec: ModelSpec, tmp_path: Path) -> None:
    search = begun(spec, tmp_path, pin=("vision.front.*=8",), budget="6")
    found = [c for c in refined(search).contenders if REFINED in c.kinds]
    assert found
    for each in found:
        assert search.setup.space.keeps_pins(each.allocation)


@pytest.mark.parametrize("options", [{"refine": False}, {"granularity": "component"}])
def test_it_is_left_out_where_it_is_not_wanted(
    spec: ModelSpec, tmp_path: Path, options: dict[str, Any]
) -> None:
    search = begun(spec, tmp_path, **options)
    found = conclude(search)
    assert found.allocation.layers == ()
    assert search.journal.attribute(KEPT + search.goal.name) is None


def test_what_was_found_is_kept_and_nothing_is_looked_at_again(
    spec: ModelSpec, tmp_path: Path, made: list[str]
) -> None:
    first = refined(begun(spec, tmp_path))
    made.clear()
    again = begun(spec, tmp_path)
    second = refined(again)
    assert runs(again) == []
    assert made == []
    told = [
        [(c.kinds, c.told()) for c in finals.contenders] for finals in (first, second)
    ]
    assert told[0] == told[1]


def test_what_is_no_better_on_the_search_set_is_not_kept(
    spec: ModelSpec, tmp_path: Path
) -> None:
    # the divergence promises what scores do not keep
    def worse(allocation: Allocation, _: int) -> float:
        return -5.0 * bool(allocation.layers)

    finals = refined(begun(spec, tmp_path, tells=worse))
    assert not [each for each in finals.contenders if REFINED in each.kinds]


def test_the_tests_of_all_rounds_share_one_error() -> None:
    from statistics import NormalDist

    import numpy as np

    rng, wrong, count = np.random.default_rng(0), 0, 400
    made_up: Any = None
    for _ in range(count):
        rows = 100.0 * (rng.uniform(size=(1 + ROUNDS * BATCH, 400)) < 0.85)
        start, *steps = (
            Contender(made_up, [], 4.0, 400, {"finalized": tuple(row)})
            for row in rows.tolist()
        )
        wrong += bool(kept(start, steps))
    edge = NormalDist().inv_cdf(0.999) * (ERROR * (1 - ERROR) / count) ** 0.5
    assert wrong / count <= ERROR + edge
