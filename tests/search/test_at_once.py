"""Several proposals at once: what came before is pending, narrowed or not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Choice
from allocator.core.plugins import load
from allocator.search.at_once import at_once
from allocator.search.narrowing import FIRST, Narrowing
from allocator.strategies._base import Candidate, Known, Strategy
from allocator.strategies._moves import scatter
from allocator.strategies._proposals import imagined
from allocator.study.frozen import FrozenGroup
from tests.searches import score, space_of
from tests.tables.test_replay import CAPTIONS
from tests.tables.test_replay import space_of as table_of

if TYPE_CHECKING:
    import numpy as np

    from allocator.core.spec import ModelSpec
    from allocator.space.model import ModelSpace

QUIET, LOW = "connector.all.all", Choice(2, "uniform")


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return space_of(toy)


@dataclass
class Heard(Strategy):
    """Proposes at random, and notes what it was told."""

    space: ModelSpace
    seed: int = 0
    damage: None = None
    told: list[Known] = field(default_factory=list)

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        self.told.append(known)
        return [Candidate(scatter(self.space, rng)) for _ in range(count)]


def test_each_is_told_of_all_candidates_before_it(space: ModelSpace) -> None:
    asked = Heard(space)
    lists = at_once(asked, Known(()), 3, 2)
    before = [[], lists[0], [*lists[0], *lists[1]]]
    for known, own in zip(asked.told, before, strict=True):
        assert list(known.pending) == [each.allocation for each in own]
        # a plug-in that knows of nothing pending finds it among what is taken
        assert known.taken == {each.allocation.digest for each in own}


def test_chance_draws_anew_each_time(space: ModelSpace) -> None:
    (first,), (second,) = at_once(Heard(space), Known(()), 2)
    assert first.allocation != second.allocation


def test_what_was_pending_before_stays_so(space: ModelSpace) -> None:
    asked = Heard(space)
    at_once(asked, Known((), pending=(space.smallest,)), 1)
    assert asked.told[0].pending == (space.smallest,)
    assert asked.told[0].taken == {space.smallest.digest}


def test_trees_take_what_is_pending_for_the_mean_of_what_is_known(
    space: ModelSpace,
) -> None:
    one, two, three = (a for a in space.uniform[:3])
    known = imagined(Known(((one, 10.0), (two, 30.0)), pending=(three,)))
    assert known.measured == ((one, 10.0), (two, 30.0), (three, 20.0))
    looked = Known(((one, 10.0),), ((one, 12.0), (two, 16.0)), pending=(three,))
    assert imagined(looked).measured == ((one, 10.0),)
    assert imagined(looked).estimated[-1] == (three, 14.0)
    # of nothing there is no mean
    assert imagined(Known((), pending=(one,))) == Known((), pending=(one,))


def test_rows_that_are_pending_count_as_read_with_what_is_predicted_of_them() -> None:
    space = table_of(CAPTIONS, "CIDEr", 5.0)
    made = load("allocator.strategies", "surrogate")(space, 0)
    first, *rest = (row for row in space.rows[:4])
    few = Known(((first, 1.0),), taken=frozenset([first.digest]))
    # of one score alone no model is asked, one is of four rows
    assert made.ask(few)[0].predicted is None
    (found,) = made.ask(replace(few, pending=tuple(rest)))
    # all that is known is one score, and nothing else can be predicted
    assert found.predicted == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["surrogate", "knapsack", "evolution"])
def test_a_narrowed_search_proposes_nothing_that_is_pending(
    name: str, space: ModelSpace
) -> None:
    frozen = FrozenGroup(QUIET, str(LOW), 0.01, "it does nothing")
    made = load("allocator.strategies", name)(space, 0)
    proposer = Narrowing(made, {FIRST: [frozen]})
    known = known_of(space)
    lists = at_once(proposer, known, 5, 3)
    found = [each.allocation for own in lists for each in own]
    assert len(lists) == 5
    assert all(a[QUIET] == LOW and space.fits(a) for a in found)
    assert len({a.digest for a in found} - known.taken) == len(found)


def known_of(space: ModelSpace) -> Known:
    """As many random allocations as the first decision about groups waits for."""
    import numpy as np

    rng, found = np.random.default_rng(1), {}
    while len(found) < FIRST:
        drawn = scatter(space, rng)
        found[drawn.digest] = (drawn, score(drawn))
    return Known(tuple(found.values()), taken=frozenset(found))
