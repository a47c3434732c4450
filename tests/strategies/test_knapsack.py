from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.errors import BudgetError
from allocator.core.pins import Pins
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.space.model import ModelSpace
from allocator.strategies import _knapsack
from allocator.strategies._knapsack import knapsack, least, solve
from tests.strategies.drawn import Drawn, by_highs, draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Damage = dict[tuple[str, Choice], float]

CHOICES = (
    *(Choice(bits, method) for bits in (2, 3, 4, 8) for method in ("uniform", "gptq")),
    Choice(16),
)
ONE_METHOD = (*(Choice(bits, "gptq") for bits in (2, 3, 4, 8)), Choice(16))


def answers(drawn: Drawn) -> list[float]:
    """Losses of everything that keeps the room, best first."""
    places = itertools.product(*(range(len(cost)) for cost in drawn.costs))
    return sorted(
        sum(loss[at] for loss, at in zip(drawn.losses, picks, strict=True))
        for picks in places
        if sum(c[at] for c, at in zip(drawn.costs, picks, strict=True)) <= drawn.room
    )


def small(seed: int) -> Drawn:
    """Up to five classes of up to five choices: whole, spread or correlated losses."""
    rng = np.random.default_rng(seed)
    costs, losses = [], []
    for count in rng.integers(1, 6, size=rng.integers(1, 6)):
        cost = rng.integers(0, 12, size=count).astype(float)
        near = rng.integers(0, 3, size=count)
        kinds = (rng.integers(-3, 6, count), 10.0 ** rng.uniform(-8, 3, count))
        costs.append(cost)
        losses.append([*kinds, near - cost][seed % 3].astype(float))
    most = sum(cost.max() for cost in costs)
    return Drawn(costs, losses, float(rng.uniform(0, 1) * most))


@pytest.mark.parametrize("start", range(0, 120, 30))
def test_answers_come_in_the_order_of_their_losses(start: int) -> None:
    for seed in range(start, start + 30):
        drawn, excluded = small(seed), []
        expected = answers(drawn)
        for best in expected[:6]:
            found = solve(drawn.costs, drawn.losses, drawn.room, excluded)
            assert found is not None
            assert found.picks not in excluded
            assert found.loss == pytest.approx(best, rel=1e-9, abs=1e-9)
            assert found.bound == found.loss
            excluded.append(found.picks)
        if len(expected) <= 6:
            assert solve(drawn.costs, drawn.losses, drawn.room, excluded) is None


@pytest.mark.parametrize("kind", ["spread", "equal", "noisy", "alike", "random"])
@pytest.mark.parametrize("classes", [18, pytest.param(120, marks=pytest.mark.slow)])
def test_it_is_as_good_as_a_mixed_integer_solver(kind: str, classes: int) -> None:
    drawn = draw(kind, classes, seed=1)
    found = solve(drawn.costs, drawn.losses, drawn.room)
    assert found is not None
    cost = sum(c[at] for c, at in zip(drawn.costs, found.picks, strict=True))
    assert cost <= drawn.room
    assert found.bound == found.loss
    # the solver's tolerances are absolute: where losses spread it stops early
    other = by_highs(drawn, seconds=5)
    assert found.loss <= other * (1 + 1e-12)
    if kind == "random":
        assert found.loss == pytest.approx(other)


def test_where_the_lists_are_cut_short_the_bound_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = draw("strong", 18, seed=0)
    monkeypatch.setattr(_knapsack, "BEAMS", (8,))
    rough = solve(drawn.costs, drawn.losses, drawn.room)
    assert rough is not None
    assert rough.bound < rough.loss
    # hardly, even so
    assert rough.bound > rough.loss * (1 - 1e-2)
    cost = sum(c[at] for c, at in zip(drawn.costs, rough.picks, strict=True))
    assert cost <= drawn.room


def test_nothing_is_chosen_where_nothing_fits() -> None:
    costs, losses = [np.array([2.0, 3.0])] * 2, [np.array([1.0, 0.0])] * 2
    assert solve(costs, losses, 3.9) is None
    found = solve(costs, losses, 4.0)
    assert found is not None
    assert found.picks == (0, 0)


def square_spec(sides: Sequence[int]) -> ModelSpec:
    """One square linear in each block, each block a group."""
    linears = [
        Linear(f"{block}", "language", block, "ff", side, side)
        for block, side in enumerate(sides)
    ]
    parameters = sum(linear.weights for linear in linears)
    return ModelSpec("toy", parameters, build_groups(linears, "block"), ())


def random_damage(space: ModelSpace, seed: int) -> Damage:
    """Damages in no order: a wider choice may well be the worse one."""
    rng = np.random.default_rng(seed)
    return {(key, c): float(rng.random()) for key in space.keys for c in CHOICES}


def total(allocation: Allocation, damage: Damage) -> float:
    return sum(damage[key, choice] for key, choice in allocation)


def everything(space: ModelSpace) -> Iterator[Allocation]:
    """Every allocation that fits."""
    for picks in itertools.product(space.choices, repeat=len(space.keys)):
        allocation = Allocation(tuple(zip(space.keys, picks, strict=True)))
        if space.fits(allocation):
            yield allocation


@pytest.mark.parametrize("bpw", [2.6, 4.0, 6.5, 12.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_allocation_that_fits_has_less_damage(bpw: float, seed: int) -> None:
    spec = square_spec([96, 128, 160])
    space = ModelSpace(spec, Scheme(), CHOICES, Budget(bpw))
    damage = random_damage(space, seed)
    found = knapsack(space, damage)
    assert space.fits(found)
    best = min(everything(space), key=lambda allocation: total(allocation, damage))
    assert found == best


@pytest.mark.parametrize("bpw", [6.0, 7.0, 9.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_allocation_that_fits_and_keeps_its_pins_has_less_damage(
    bpw: float, seed: int
) -> None:
    spec = square_spec([96, 128, 80, 112])
    pins = Pins(("*.02.*=16", "*.03.*=4"), ("*.00.*=3",), ("*.0[01].*=8",))
    # 16 bits are a choice for the pinned group alone
    space = ModelSpace(spec, Scheme(), CHOICES[:-1], Budget(bpw), pins)
    damage = random_damage(space, seed)
    best = min(
        (
            each
            for each in everything(ModelSpace(spec, Scheme(), CHOICES, Budget(bpw)))
            if each[space.keys[2]].bits == 16
            and each[space.keys[3]].bits == 4
            and 3 <= each[space.keys[0]].bits <= 8
            and each[space.keys[1]].bits <= 8
        ),
        key=lambda allocation: total(allocation, damage),
    )
    assert knapsack(space, damage) == best
    # where nothing says what 16 bits do, they do no damage
    known = {at: v for at, v in damage.items() if at[1].bits < 16}
    assert knapsack(space, known) == best
    # what another search left, pinned otherwise, is passed over in silence
    assert least(space, damage, [space.full, space.alike(CHOICES[0])]) == best


@pytest.mark.parametrize("bpw", [2.8, 2.9, 3.3, 4.0, 5.5, 9.0, 15.9, 16.0])
def test_any_budget_is_kept(toy: ModelSpec, bpw: float) -> None:
    space = ModelSpace(toy, Scheme(), CHOICES, Budget(bpw))
    for seed in range(4):
        assert space.fits(knapsack(space, random_damage(space, seed)))


def test_a_group_is_widened_where_that_spares_the_most(toy: ModelSpec) -> None:
    # 2 bits hurt one group, all other choices are free: it alone is widened
    space = ModelSpace(toy, Scheme(), ONE_METHOD, Budget(2.9))
    damage = {(key, choice): 0.0 for key in toy.keys for choice in ONE_METHOD}
    damage["connector.all.all", Choice(2, "gptq")] = 1.0
    found = knapsack(space, damage)
    assert total(found, damage) == 0
    assert space.fits(found)


def test_with_no_room_it_is_the_smallest_allocation(toy: ModelSpec) -> None:
    # 27,560 bytes of groups at 2 bits and 8,192 of the rest
    space = ModelSpace(toy, Scheme(), ONE_METHOD, Budget(35_752, "bytes"))
    damage = {(k, c): 1 / c.bits for k in toy.keys for c in ONE_METHOD}
    assert knapsack(space, damage) == space.smallest


def test_what_is_excluded_or_taken_is_passed_over() -> None:
    space = ModelSpace(square_spec([96, 128]), Scheme(), CHOICES, Budget(6.0))
    damage = random_damage(space, 0)
    ranked = sorted(everything(space), key=lambda each: total(each, damage))
    taken = {ranked[1].digest, ranked[2].digest}
    assert least(space, damage, [ranked[0]], taken) == ranked[3]
    assert least(space, damage, ranked, ()) is None


def test_a_table_gives_its_best_row_that_is_free() -> None:
    class Rows(ModelSpace):
        @property
        def rows(self) -> Sequence[Allocation]:
            return self.uniform[:2]

    space = Rows(square_spec([96, 128]), Scheme(), CHOICES, Budget(6.0))
    damage = {(key, c): 1 / c.bits for key in space.keys for c in CHOICES}
    damage[space.keys[0], CHOICES[0]] += 1
    assert knapsack(space, damage) == space.alike(CHOICES[1])
    first, second = space.rows
    assert least(space, damage, [second]) == first
    assert least(space, damage, [], {first.digest, second.digest}) is None
    with pytest.raises(BudgetError, match="nothing fits"):
        knapsack(_Empty(space.spec, Scheme(), CHOICES, Budget(6.0)), damage)


class _Empty(ModelSpace):
    @property
    def rows(self) -> Sequence[Allocation]:
        return ()


def test_thousands_of_classes_are_solved_to_optimality() -> None:
    """As many as a mixture of experts has linears: most are decided at once."""
    draw = np.random.default_rng(0)
    costs = [np.array([2.0, 3.0, 4.0, 8.0])] * 2000
    losses = [draw.lognormal() / 4.0 ** costs[0] for _ in costs]
    found = solve(costs, losses, 4.0 * len(costs))
    assert found is not None
    assert sum(costs[0][at] for at in found.picks) <= 4.0 * len(costs)
    assert found.bound == found.loss
    second = solve(costs, losses, 4.0 * len(costs), [found.picks])
    assert second is not None
    assert second.picks != found.picks
    assert second.loss >= found.loss
