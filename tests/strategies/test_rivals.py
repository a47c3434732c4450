"""What each strategy that is compared with does as its source has it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.space.model import ModelSpace
from allocator.strategies._base import Known
from allocator.strategies._scratch import METHOD, ROOM, Levels
from allocator.strategies.evolution import Evolution
from allocator.strategies.grid import Grid
from allocator.strategies.knapsack import Knapsack
from allocator.strategies.nsga2 import Nsga2
from allocator.strategies.tpe import Tpe

if TYPE_CHECKING:
    from allocator.space.base import Space

TWO_METHODS = (
    *(Choice(bits, method) for bits in (2, 3, 4, 8) for method in ("awq", "uniform")),
    Choice(16),
)
ONE_METHOD = tuple(Choice(bits, "awq") for bits in (2, 3, 4, 8))


def four_groups(bpw: float = 4.0, choices: tuple[Choice, ...] = ONE_METHOD) -> Space:
    """Two components of two groups each."""
    linears = [
        Linear(f"{part}.{block}", part, block, "ff", 64 + 32 * block, 128)
        for part in ("vision", "language")
        for block in range(2)
    ]
    weights = sum(linear.weights for linear in linears)
    spec = ModelSpec("toy", weights, build_groups(linears, "block"), ())
    return ModelSpace(spec, Scheme(), choices, Budget(bpw))


def told(*pairs: tuple[Allocation, float]) -> Known:
    return Known(pairs, (), frozenset(a.digest for a, _ in pairs))


def everything(space: Space) -> list[Allocation]:
    """Every allocation that fits."""
    found = [
        space.smallest.replace(dict(zip(space.keys, picks, strict=True)))
        for picks in itertools.product(space.choices, repeat=len(space.keys))
    ]
    return [allocation for allocation in found if space.fits(allocation)]


def test_the_knapsack_goes_by_rising_damage() -> None:
    space = four_groups()
    rng = np.random.default_rng(0)
    damage = {
        (k, c): rng.random() * 4.0**-c.bits for k in space.keys for c in ONE_METHOD
    }

    def total(allocation: Allocation) -> float:
        return sum(damage[key, choice] for key, choice in allocation)

    found = Knapsack(space, 0, damage).ask(told(), 40)
    expected = sorted(everything(space), key=total)[:40]
    assert [c.allocation for c in found] == expected
    # measuring some of them changes nothing about the rest
    known = told(*((a, 0.0) for a in expected[:7]))
    later = Knapsack(space, 0, damage).ask(known, 3)
    assert [c.allocation for c in later] == expected[7:10]


def test_the_knapsack_finds_the_sensitive_group_in_whole_allocations() -> None:
    space = four_groups()
    fragile = space.keys[2]

    def score(allocation: Allocation) -> float:
        return 50 - 900 * 3.0 ** -allocation[fragile].bits

    known = told(*((a, score(a)) for a in (*everything(space)[::9], space.full)))
    damage = Knapsack(space).estimate(known)
    weights = [damage[key, Choice(2, "awq")] for key in space.keys]
    assert np.argmax(weights) == 2
    assert weights[2] > 0.8 * sum(weights)
    (first,) = Knapsack(space).ask(known)
    assert first.allocation[fragile] == Choice(8, "awq")


def test_the_knapsack_prefers_the_method_that_scored_better() -> None:
    space = four_groups(choices=TWO_METHODS)
    better = {"awq": 1.0, "uniform": 2.0, None: 0.0}

    def score(allocation: Allocation) -> float:
        return 50 - sum(better[c.method] * 3.0**-c.bits for _, c in allocation)

    known = told(*((a, score(a)) for a in (*space.uniform, space.full)))
    (first,) = Knapsack(space).ask(known)
    assert {choice.method for _, choice in first.allocation} <= {"awq", None}


def test_evolution_starts_from_the_widest_uniform_allocation_that_fits() -> None:
    space = four_groups(4.5)
    (first,) = Evolution(space).ask(Known(()))
    assert first.allocation == space.alike(Choice(4, "awq"))


def test_evolution_trades_levels_of_the_best_that_fits() -> None:
    space = four_groups(4.5)
    best = space.alike(Choice(4, "awq"))
    known = told((best, 50.0), (space.smallest, 10.0), (space.full, 90.0))
    children = [c.allocation for c in Evolution(space).ask(known, 16)]
    assert len(children) == 16
    for child in children:
        raised = [key for key, own in child if own.bits > best[key].bits]
        lowered = [key for key, own in child if own.bits < best[key].bits]
        # 4 bits leave no room for a wider group, unless another is narrowed
        assert raised
        assert lowered
        assert space.fits(child)


def test_evolution_switches_methods_too() -> None:
    space = four_groups(4.5, TWO_METHODS)
    known = told((space.alike(Choice(4, "awq")), 50.0))
    children = [c.allocation for c in Evolution(space).ask(known, 16)]
    methods = [{own.method for _, own in child} for child in children]
    assert any("uniform" in found for found in methods)


@pytest.mark.parametrize("make", [Nsga2, Tpe])
def test_optunas_samplers_learn_from_scores(make: type[Nsga2 | Tpe]) -> None:
    space = four_groups(5.0)
    wide = space.keys[0]

    def hits(sign: int) -> int:
        every = everything(space)[::5]
        scores = [(a, float(sign * a[wide].bits)) for a in every]
        found = make(space).ask(told(*scores), 20)
        return sum(c.allocation[wide].bits == 8 for c in found)

    assert hits(1) > hits(-1)


def test_a_sampler_sees_levels_methods_and_what_is_over_the_budget() -> None:
    space = four_groups(choices=TWO_METHODS)
    levels = Levels(space)
    mixed = space.smallest.replace({space.keys[1]: Choice(8, "uniform")})
    params = levels.params(mixed)
    assert (params[space.keys[0]], params[space.keys[1]]) == (0, 3)
    assert params[METHOD.format(space.keys[1])] == "uniform"
    for allocation in (mixed, space.full):
        assert levels.allocation(levels.params(allocation)) == allocation
    known = told((mixed, 1.0), (space.full, 2.0))
    fits, over = levels.study(known, optuna.samplers.RandomSampler()).trials
    assert fits.constraints == {ROOM: 0.0}
    # from 4 to 16 bits
    assert over.constraints[ROOM] == space.bytes(space.full) - space.room > 0


def test_the_grid_sweeps_components_from_the_widest() -> None:
    space = four_groups(4.5, TWO_METHODS)
    found = [c.allocation for c in Grid(space).ask(told(), 18)]
    widths = [tuple(own.bits for _, own in a) for a in found]
    # both groups of a component alike; either method in turn
    assert all(w[0] == w[1] and w[2] == w[3] for w in widths)
    assert widths[::2] == widths[1::2]
    pairs = [(w[0], w[2]) for w in widths[::2]]
    # Both components are of one size; 4.25 bits a weight at 4, 8.375 at 8, and
    # 3.25 + 0.0234 at 3: (4, 4) and nothing wider, nor (2, 8), 10.53 bits for two
    assert pairs[0] == (4, 4)
    assert set(pairs) == set(itertools.product((2, 3, 4), repeat=2))
    sizes = [sum(pair) for pair in pairs[1:]]
    assert sizes == sorted(sizes, reverse=True)


def test_the_grid_changes_single_groups_when_components_are_through() -> None:
    space = four_groups(4.5)
    coarse = Grid(space).ask(told(), 9)
    known = told(*((c.allocation, 0.0) for c in coarse))
    (next_,) = Grid(space).ask(known)
    base = space.alike(Choice(4, "awq"))
    changed = [key for key, own in next_.allocation if own != base[key]]
    assert len(changed) == 1
