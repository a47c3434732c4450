from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.space.model import ModelSpace
from allocator.strategies._moves import (
    fill,
    mutate,
    repair,
    scatter,
    widen,
)

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec

METHODS = ("uniform", "gptq")
CHOICES = (
    *(Choice(bits, method) for bits in (2, 3, 4, 8) for method in METHODS),
    Choice(16),
)
ONE_METHOD = (*(Choice(bits, "gptq") for bits in (2, 3, 4, 8)), Choice(16))
# from hardly more than everything at 2 bits (2.793) to everything at 16
BUDGETS = [2.8, 2.9, 3.3, 4.0, 5.5, 9.0, 15.9, 16.0]
EACH_BUDGET = pytest.mark.parametrize("bpw", BUDGETS)
SEEDS = range(12)


def toy_space(spec: ModelSpec, bpw: float) -> ModelSpace:
    return ModelSpace(spec, Scheme(), CHOICES, Budget(bpw))


def any_allocation(space: ModelSpace, rng: np.random.Generator) -> Allocation:
    """A random allocation, most often over the budget."""
    picks = rng.integers(len(space.choices), size=len(space.keys))
    chosen = zip(space.keys, picks, strict=True)
    return space.smallest.replace({key: space.choices[at] for key, at in chosen})


def widened(space: ModelSpace, allocation: Allocation) -> list[Allocation]:
    """Every allocation with one group a level wider."""
    found = []
    for key, own in allocation:
        wider = [bits for bits in space.widths if bits > own.bits][:1]
        found += [allocation.replace({key: space.by_width[b][0]}) for b in wider]
    return found


@EACH_BUDGET
def test_filling_keeps_the_budget_and_leaves_no_room_for_another_level(
    toy: ModelSpec, bpw: float
) -> None:
    space = toy_space(toy, bpw)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        start = repair(space, any_allocation(space, rng), rng)
        found = fill(space, start, rng)
        assert space.fits(found)
        assert not any(space.fits(wider) for wider in widened(space, found))
        assert all(found[key].bits >= own.bits for key, own in start)


@EACH_BUDGET
def test_repairing_narrows_until_the_budget_is_kept(toy: ModelSpec, bpw: float) -> None:
    space = toy_space(toy, bpw)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        start = any_allocation(space, rng)
        found = repair(space, start, rng)
        assert space.fits(found)
        assert all(found[key].bits <= own.bits for key, own in start)


def test_repairing_leaves_alone_what_fits(toy: ModelSpec) -> None:
    space = toy_space(toy, 4.0)
    start = space.smallest.replace({"vision.end.ff": Choice(8, "gptq")})
    assert space.fits(start)
    assert repair(space, start, np.random.default_rng(0)) == start


def test_a_group_keeps_its_method_when_its_width_changes(toy: ModelSpec) -> None:
    tight, wide = toy_space(toy, 3.3), toy_space(toy, 7.0)
    rng = np.random.default_rng(0)
    start = Allocation.uniform(toy, Choice(4, "gptq"))
    narrowed, filled = repair(tight, start, rng), fill(wide, start, rng)
    assert narrowed != start
    assert filled != start
    assert {choice.method for _, choice in narrowed} == {"gptq"}
    assert {choice.method for _, choice in filled} <= {"gptq", None}


@EACH_BUDGET
def test_mutants_and_random_allocations_keep_the_budget(
    toy: ModelSpec, bpw: float
) -> None:
    space = toy_space(toy, bpw)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = scatter(space, rng)
        assert space.fits(found)
        for _ in range(5):
            found = mutate(space, found, rng)
            assert space.fits(found)


def test_random_moves_reach_different_allocations(toy: ModelSpec) -> None:
    space = toy_space(toy, 4.0)
    rng = np.random.default_rng(0)
    start = scatter(space, rng)
    assert len({scatter(space, rng).digest for _ in range(20)}) == 20
    assert len({mutate(space, start, rng).digest for _ in range(20)}) > 10


def test_the_same_generator_gives_the_same_moves(toy: ModelSpec) -> None:
    space = toy_space(toy, 4.0)
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    first, second = scatter(space, one), scatter(space, two)
    assert first == second
    assert mutate(space, first, one) == mutate(space, second, two)


def test_a_group_that_is_spared_is_narrowed_last(toy: ModelSpec) -> None:
    space = toy_space(toy, 4.0)
    start = space.smallest.replace({"connector.all.all": Choice(16)})
    assert space.fits(start)
    start = start.replace({"language.all.ff": Choice(16)})
    assert not space.fits(start)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = repair(space, start, rng, spared="connector.all.all")
        assert space.fits(found)
        assert found["connector.all.all"] == Choice(16)


def test_a_width_that_is_not_offered_is_narrowed_to_the_next_that_is(
    toy: ModelSpec,
) -> None:
    space = ModelSpace(toy, Scheme(), ONE_METHOD[:-1], Budget(4.0))
    rng = np.random.default_rng(0)
    found = repair(space, space.full, rng)
    assert space.fits(found)
    assert {choice.bits for _, choice in found} <= {2, 3, 4, 8, 16}
    # 16 bits are wider than any width on offer, and stay where they fit
    mixed = space.smallest.replace({"connector.all.all": Choice(16)})
    assert fill(space, mixed, rng)["connector.all.all"] == Choice(16)


def test_the_next_wider_choice_keeps_the_method_up_to_the_widest(
    toy: ModelSpec,
) -> None:
    space = toy_space(toy, 4.0)
    assert widen(space, toy.keys[0], Choice(4, "gptq")) == Choice(8, "gptq")
    assert widen(space, toy.keys[0], Choice(8, "gptq")) == Choice(16)
    assert widen(space, toy.keys[0], Choice(16)) == Choice(16)
