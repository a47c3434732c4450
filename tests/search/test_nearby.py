from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.spec import ModelSpec, build_groups
from allocator.search.nearby import changes, lowest, near
from allocator.space.model import ModelSpace
from tests.conftest import toy_linears
from tests.searches import CHOICES, damage_of

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture
def space() -> ModelSpace:
    """Three components, a group each, within 5 bits per weight."""
    spec = ModelSpec("toy", 102_400, build_groups(toy_linears(), "component"), ())
    return ModelSpace(spec, Scheme(), CHOICES, Budget(5.0))


def everything(space: ModelSpace) -> Iterable[Allocation]:
    for choices in itertools.product(space.choices, repeat=len(space.keys)):
        each = Allocation(tuple(zip(space.keys, choices, strict=True)))
        if space.fits(each):
            yield each


def test_changes_go_up_down_and_to_another_method(space: ModelSpace) -> None:
    allocation = space.alike(Choice(4, "uniform"))
    found = changes(space, allocation, damage_of(space), 99)
    # awq does less damage at each width
    wanted = {(key, Choice(bits, "awq")) for key in space.keys for bits in (2, 4, 8)}
    assert set(found) == wanted
    # of each kind one in turn
    assert [choice.bits for _, choice in found[:3]] == [8, 2, 4]
    assert len(changes(space, allocation, damage_of(space), 4)) == 4


def test_there_is_nothing_below_the_narrowest_and_above_the_widest(
    space: ModelSpace,
) -> None:
    best = space.widest
    assert {c.bits for _, c in changes(space, best, damage_of(space), 99)} == {4, 8}
    best = space.smallest
    assert {c.bits for _, c in changes(space, best, damage_of(space), 99)} == {
        *(2, 4, 8)
    }


def test_the_first_is_the_best_of_all_that_fit(space: ModelSpace) -> None:
    start = space.near(Choice(2, "awq"))
    damage = damage_of(space)
    own = dict(start.choices)
    effects = {
        (key, choice): damage[key, choice] - damage[key, own[key]]
        for key, choice in changes(space, start, damage, 99)
    }

    def lost(each: Allocation) -> float | None:
        changed = [at for at in each if at[1] != own[at[0]]]
        if not all(at in effects for at in changed):
            return None
        return sum(effects[at] for at in changed)

    losses = [loss for each in everything(space) if (loss := lost(each)) is not None]
    found = near(space, start, effects)
    assert all(space.fits(each) for each in found)
    first = lost(found[0])
    assert first == pytest.approx(min(losses))
    counts = [sum(a != b for a, b in zip(e, start, strict=True)) for e in found]
    assert counts == sorted(counts, reverse=True)
    # what was tried is not found again
    again = near(space, start, effects, found)
    assert not {each.digest for each in found} & {each.digest for each in again}


def test_where_no_change_gains_there_is_nothing(space: ModelSpace) -> None:
    start = space.smallest
    assert near(space, start, {}) == []
    worse = {(key, Choice(4, "awq")): 1.0 for key in space.keys}
    assert near(space, start, worse) == []


def test_the_lowest_are_a_few() -> None:
    first, second = (Allocation((("a", Choice(b, "awq")),)) for b in (2, 4))
    losses = {first.digest: 2.0, second.digest: 1.0}
    assert lowest([first, second], losses, 1) == [second]
