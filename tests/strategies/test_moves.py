from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.space import ModelSpace
from allocator.strategies._moves import (
    STEPS,
    fill,
    knapsack,
    mutate,
    repair,
    scatter,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    Damage = dict[tuple[str, Choice], float]

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


def square_spec(sides: Sequence[int]) -> ModelSpec:
    """One square linear in each block, each block a group."""
    linears = [
        Linear(f"{block}", "language", block, "ff", side, side)
        for block, side in enumerate(sides)
    ]
    parameters = sum(linear.weights for linear in linears)
    return ModelSpec("toy", parameters, build_groups(linears, "block"), ())


def cells(space: ModelSpace) -> list[tuple[str, Choice]]:
    return list(itertools.product(space.keys, space.choices))


def random_damage(space: ModelSpace, seed: int) -> Damage:
    """Damages in no order: a wider choice may well be the worse one."""
    rng = np.random.default_rng(seed)
    return {(key, c): float(rng.random()) for key in space.keys for c in CHOICES}


def total(allocation: Allocation, damage: Damage) -> float:
    return sum(damage[key, choice] for key, choice in allocation)


def least_damage(space: ModelSpace, damage: Damage, room: float) -> float:
    """The smallest summed damage within some bytes, by trying everything."""
    keys = space.keys
    return min(
        sum(damage[key, choice] for key, choice in zip(keys, picks, strict=True))
        for picks in itertools.product(space.choices, repeat=len(keys))
        if sum(
            space.group_bytes[key][choice.bits]
            for key, choice in zip(keys, picks, strict=True)
        )
        <= room
    )


@pytest.mark.parametrize("bpw", [5.2, 6.0, 8.0, 11.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_knapsack_is_exact_where_a_byte_is_a_step(bpw: float, seed: int) -> None:
    # 16 x 16, 8 x 8 and 12 x 12: everything at 16 bits is 928 bytes
    spec = square_spec([16, 8, 12])
    space = ModelSpace(spec, Scheme(), CHOICES, Budget(bpw))
    assert space.room - space.bytes(space.smallest) < STEPS
    damage = random_damage(space, seed)
    found = knapsack(space, damage)
    assert space.fits(found)
    best = least_damage(space, damage, space.room)
    assert total(found, damage) == pytest.approx(best)


@pytest.mark.parametrize("bpw", [2.6, 4.0, 6.5, 12.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_knapsack_loses_at_most_a_step_for_each_group(
    bpw: float, seed: int
) -> None:
    spec = square_spec([96, 128, 160])
    space = ModelSpace(spec, Scheme(), CHOICES, Budget(bpw))
    damage = random_damage(space, seed)
    found = knapsack(space, damage)
    assert space.fits(found)
    # A cost is rounded up by less than a step of 1/4096 of the room there is above
    # the smallest allocation, and the room down by less than one: whatever fits with
    # four steps to spare was a candidate.
    step = max(1.0, (space.room - space.bytes(space.smallest)) / STEPS)
    bound = least_damage(space, damage, space.room - 4 * step)
    assert total(found, damage) <= bound + 1e-9
    assert total(found, damage) >= least_damage(space, damage, space.room) - 1e-9


@EACH_BUDGET
def test_the_knapsack_keeps_any_budget(toy: ModelSpec, bpw: float) -> None:
    space = toy_space(toy, bpw)
    for seed in range(4):
        assert space.fits(knapsack(space, random_damage(space, seed)))


def test_the_knapsack_keeps_a_budget_that_it_fills_to_the_brim(toy: ModelSpec) -> None:
    for bpw in np.linspace(6, 15, 30):
        space = toy_space(toy, float(bpw))
        # every byte spares as much as any other: the more the better
        damage = {(k, c): -float(space.group_bytes[k][c.bits]) for k, c in cells(space)}
        found = knapsack(space, damage)
        assert space.fits(found)
        # ten steps to spare, one for each group and one more: it would have been found
        step = (space.room - space.bytes(space.smallest)) / STEPS
        larger = [space.bytes(wider) for wider in widened(space, found)]
        assert all(each > space.room - 10 * step for each in larger)


def test_the_knapsack_widens_where_that_spares_the_most(toy: ModelSpec) -> None:
    # 2 bits hurt one group, all other choices are free: it alone is widened
    space = ModelSpace(toy, Scheme(), ONE_METHOD, Budget(2.9))
    damage = {(key, choice): 0.0 for key in toy.keys for choice in ONE_METHOD}
    damage["connector.all.all", Choice(2, "gptq")] = 1.0
    found = knapsack(space, damage)
    assert found == space.smallest.replace({"connector.all.all": Choice(3, "gptq")})


def test_the_knapsack_with_no_room_is_the_smallest_allocation(toy: ModelSpec) -> None:
    # 27,560 bytes of groups at 2 bits and 8,192 of the rest
    space = ModelSpace(toy, Scheme(), ONE_METHOD, Budget(35_752, "bytes"))
    damage = {(k, c): 1 / c.bits for k in toy.keys for c in ONE_METHOD}
    assert knapsack(space, damage) == space.smallest
