"""What a little memory buys: predicted moves against a formula that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.explain.neighbours import Neighbours
from allocator.strategies._moves import scatter
from tests.searches import space_of

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec
    from allocator.space.model import ModelSpace

LOUD, QUIET = "language.all.ff", "vision.middle.attn"


def planted(allocation: Allocation) -> float:
    """One group decides, one does nothing, the rest little."""
    lost = 0.0
    for key, choice in allocation:
        weight = {LOUD: 40.0, QUIET: 0.0}.get(key, 2.0)
        lost += weight * 2.0**-choice.bits
    return 90.0 - lost


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return space_of(toy)


@pytest.fixture
def neighbours(space: ModelSpace) -> Neighbours:
    rng = np.random.default_rng(0)
    drawn = [scatter(space, rng) for _ in range(150)]
    picks = [
        Allocation(tuple((k, space.choices[rng.integers(6)]) for k in space.keys))
        for _ in range(150)
    ]
    return Neighbours(space, [(a, planted(a)) for a in drawn + picks])


def test_more_memory_goes_where_it_is_predicted_to_gain_most(
    space: ModelSpace, neighbours: Neighbours
) -> None:
    narrow = space.alike(Choice(2, "awq"))
    found = neighbours.more(narrow, bpw=2.0)
    first = found["steps"][0]
    assert (first["group"], first["from"]) == (LOUD, "2 awq")
    assert first["score"] > 0
    assert sum(step["bpw"] for step in found["steps"]) <= 2.0 + 1e-9
    assert found["reason"] is None


def test_less_memory_is_taken_where_it_costs_least(
    space: ModelSpace, neighbours: Neighbours
) -> None:
    wide = space.alike(Choice(8, "awq"))
    found = neighbours.less(wide, bpw=0.3)
    freed = -sum(step["bpw"] for step in found["steps"])
    assert freed >= 0.3 - 1e-9
    # nothing was taken beyond what was needed
    assert freed + found["steps"][-1]["bpw"] < 0.3
    assert LOUD not in {step["group"] for step in found["steps"]}


def test_sizes_of_moves_are_those_of_the_space(
    space: ModelSpace, neighbours: Neighbours
) -> None:
    narrow = space.alike(Choice(2, "awq"))
    for move in neighbours.moves(narrow, wider=True):
        after = narrow.replace({move.key: move.after})
        assert move.bpw == pytest.approx(space.bpw(after) - space.bpw(narrow))
        assert move.after.bits == 4


def test_at_the_ends_nothing_can_be_moved(
    space: ModelSpace, neighbours: Neighbours
) -> None:
    widest = space.alike(Choice(8, "awq"))
    assert neighbours.more(widest)["reason"] == "No group can be widened by so little."
    narrow = space.alike(Choice(2, "awq"))
    assert neighbours.less(narrow)["reason"] == "Every group is at its narrowest."
    assert neighbours.less(narrow) == {
        "bpw": -0.1,
        "steps": [],
        "reason": "Every group is at its narrowest.",
    }


def test_what_is_too_wide_a_step_is_not_offered(
    space: ModelSpace, neighbours: Neighbours
) -> None:
    narrow = space.alike(Choice(2, "awq"))
    least = min(move.bpw for move in neighbours.moves(narrow, wider=True))
    found = neighbours.more(narrow, bpw=0.9 * least)
    assert found["reason"] == "No group can be widened by so little."


def test_from_few_allocations_nothing_is_predicted(space: ModelSpace) -> None:
    few = [(space.full, 90.0), (space.smallest, 10.0)]
    found = Neighbours(space, few).more(space.smallest)
    assert found["steps"] == []
    assert "2 scored allocations are too few" in found["reason"]
