"""A narrowed search keeps its budget, its frozen groups, and its reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.core.plugins import available, load
from allocator.search.narrowing import EVERY, FIRST, NarrowedSpace, Narrowing, decide
from allocator.search.propose import propose
from allocator.search.run import baselines
from allocator.space.model import within_name
from allocator.strategies._base import Known
from allocator.strategies._moves import scatter
from allocator.study.frozen import FrozenGroup, keep_frozen, latest_frozen, read_frozen
from allocator.tables.oracle import Oracle, read_rows
from tests.searches import asked_for, damage_of, score, search_of, space_of
from tests.tables.test_replay import CAPTIONS, best
from tests.tables.test_replay import space_of as table_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec
    from allocator.space.model import ModelSpace

LOW = Choice(2, "uniform")
QUIET = "connector.all.all"


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return space_of(toy)


def known_of(space: ModelSpace, count: int, quiet: str | None = None) -> Known:
    """Random allocations that fill the budget, the quiet group narrow in the best."""
    rng, measured = np.random.default_rng(0), {}
    for _ in range(count):
        drawn = scatter(space, rng)
        measured[drawn.digest] = (drawn, of(drawn, quiet))
    if quiet:
        top = space.smallest.replace(
            {"language.all.attn": Choice(4, "awq"), "language.all.ff": Choice(4, "awq")}
        )
        measured[top.digest] = (top, 95.0)
    return Known(tuple(measured.values()), taken=frozenset(measured))


def of(allocation: Allocation, quiet: str | None) -> float:
    """The score, of which a quiet group decides nothing."""
    return score(allocation.replace({quiet: LOW}) if quiet else allocation)


def test_a_group_that_does_nothing_and_is_narrow_is_frozen(space: ModelSpace) -> None:
    found = decide(space, known_of(space, 150, QUIET), seed=0)
    assert QUIET in {each.group for each in found}
    for each in found:
        assert each.choice == str(LOW)
        assert "an even share" in each.reason
    # what decides the score is not
    assert not {"language.all.ff", "vision.front.ff"} & {e.group for e in found}


def test_of_few_rows_nothing_is_frozen(space: ModelSpace) -> None:
    assert decide(space, known_of(space, 4), seed=0) == ()
    assert decide(space, Known(()), seed=0) == ()


def test_a_narrowed_space_counts_what_is_frozen(space: ModelSpace) -> None:
    frozen = {QUIET: LOW, "vision.front.attn": LOW}
    narrow = NarrowedSpace(space, frozen)
    assert set(narrow.keys) == set(space.keys) - set(frozen)
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = scatter(narrow, rng)
        whole = narrow.whole(drawn)
        assert narrow.fits(drawn)
        assert space.fits(whole)
        assert narrow.bpw(drawn) == space.bpw(whole)
        assert {key: whole[key] for key in frozen} == frozen
        assert narrow.part(whole) == drawn
    # filled to the same budget
    assert max(space.bytes(narrow.whole(scatter(narrow, rng))) for _ in range(50)) > (
        0.9 * space.room
    )


@pytest.mark.parametrize("name", available("allocator.strategies"))
def test_every_strategy_can_be_narrowed(space: ModelSpace, name: str) -> None:
    known = known_of(space, FIRST)
    frozen = [FrozenGroup(QUIET, str(LOW), 1.0, "because")]
    make = load("allocator.strategies", name)
    strategy = Narrowing(
        make(space, 0, damage_of(space)),
        dict.fromkeys(range(0, 99, EVERY), frozen),
    )
    for count in (1, 6):
        found = strategy.ask(known, count)
        digests = [each.allocation.digest for each in found]
        assert 1 <= len(found) <= max(count, 1)
        assert len(set(digests)) == len(digests)
        assert all(space.fits(each.allocation) for each in found)
        assert not set(digests) & known.taken
    (only,) = strategy.ask(known, 1)
    assert only.allocation[QUIET] == LOW


def test_what_another_process_measures_is_not_proposed(space: ModelSpace) -> None:
    known = known_of(space, FIRST)
    frozen = [FrozenGroup(QUIET, str(LOW), 1.0, "because")]
    make = load("allocator.strategies", "surrogate")

    def ask(known: Known) -> str:
        decided = dict.fromkeys(range(0, 99, EVERY), frozen)
        narrowing = Narrowing(make(space, 0, damage_of(space)), decided)
        return narrowing.ask(known, 1)[0].allocation.digest

    first = ask(known)
    assert ask(known) == first
    begun = Known(known.measured, taken=known.taken | {first})
    assert ask(begun) != first


def test_before_much_is_known_nothing_changes(space: ModelSpace) -> None:
    known = known_of(space, FIRST - 4)
    make = load("allocator.strategies", "surrogate")
    plain = make(space, 0, damage_of(space))
    assert Narrowing(make(space, 0, damage_of(space))).ask(known, 6) == plain.ask(
        known, 6
    )


def test_a_study_keeps_what_was_frozen_and_why(toy: ModelSpec, tmp_path: Path) -> None:
    search = search_of(toy, f"{tmp_path}/s.log", asked_for(trials=16))
    baselines(search)
    propose(search)
    budget = within_name(search.setup.space)
    decided = read_frozen(search.journal, budget)
    assert decided
    assert all(at % EVERY == 0 for at in decided)
    keep_frozen(
        search.journal, budget, 80, [FrozenGroup(QUIET, str(LOW), 0.5, "A reason.")]
    )
    assert latest_frozen(search.journal, budget) == [
        {"group": QUIET, "choice": "2 uniform", "share": 0.5, "reason": "A reason."}
    ]
    assert latest_frozen(search.journal, "another") == []


def test_without_narrowing_nothing_is_decided(toy: ModelSpec, tmp_path: Path) -> None:
    asked = asked_for(trials=12, narrowing=False)
    search = search_of(toy, f"{tmp_path}/s.log", asked)
    baselines(search)
    propose(search)
    assert read_frozen(search.journal, within_name(search.setup.space)) == {}


@pytest.mark.parametrize("budget", [4, 6])
def test_on_the_published_table_narrowing_costs_nothing(budget: float) -> None:
    left = []
    for seed in range(2):
        oracle = Oracle(table_of(CAPTIONS, "CIDEr", budget), 20)
        make = load("allocator.strategies", "surrogate")
        read_rows(Narrowing(make(oracle.space, seed)), oracle)
        left.append(best(CAPTIONS, "CIDEr", budget) - max(oracle.scores.values()))
    assert max(left) <= 0.005


def test_rows_of_a_narrowed_table_are_those_that_agree() -> None:
    space = table_of(CAPTIONS, "CIDEr", 6.0)
    two = Choice(2, "measured")
    narrow = NarrowedSpace(space, {"qformer_bits": two})
    assert narrow.rows is not None
    expected = [row for row in space.rows if row["qformer_bits"] == two]
    assert [narrow.whole(row) for row in narrow.rows] == expected
    nearest = narrow.nearest(narrow.rows[3])
    assert nearest == narrow.rows[3]
    gone = {row.digest for row in narrow.rows}
    assert narrow.nearest(narrow.rows[3], gone) is None
