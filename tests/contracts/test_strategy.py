"""What every strategy must do, found without being listed."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.plugins import available, load
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.search.at_once import at_once
from allocator.space.base import Space
from allocator.space.model import ModelSpace
from allocator.strategies._base import Known

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from allocator.strategies._base import Strategy

optuna.logging.set_verbosity(optuna.logging.ERROR)

EACH = pytest.mark.parametrize("name", available("allocator.strategies"))
EACH_PRIOR = pytest.mark.parametrize("prior", [False, True], ids=["alone", "prior"])
PROPOSALS = 15
CHOICES = (
    *(Choice(bits, method) for bits in (2, 3, 4, 8) for method in ("uniform", "awq")),
    Choice(16),
)


def five_groups() -> ModelSpace:
    """Five groups of different sizes, at 4 bits a weight."""
    sides = (64, 48, 32, 96, 80)
    return ModelSpace(squares(sides), Scheme(), CHOICES, Budget(4.0))


def squares(sides: Sequence[int]) -> ModelSpec:
    """A square linear in each block, each block a group."""
    linears = [
        Linear(f"{block}", "language", block, "ff", side, side)
        for block, side in enumerate(sides)
    ]
    weights = sum(linear.weights for linear in linears)
    return ModelSpec("toy", weights, build_groups(linears, "block"), ())


class Rows(Space):
    """Twelve allocations of a model are all that can be measured, sizes estimated."""

    def __init__(self, model: ModelSpace) -> None:
        self.model, self.choices = model, model.choices[1::2]
        rng = np.random.default_rng(0)
        found = {self.smallest.digest: self.smallest}
        while len(found) < 12:
            picks = {key: self.choices[rng.integers(4)] for key in model.keys}
            row = self.smallest.replace(picks)
            if model.fits(row):
                found[row.digest] = row
        self._rows = tuple(found.values())

    @property
    def keys(self) -> tuple[str, ...]:
        return self.model.keys

    @property
    def group_bytes(self) -> Mapping[str, Mapping[int, float]]:
        return {
            key: {bits: 1.03 * size for bits, size in sizes.items()}
            for key, sizes in self.model.group_bytes.items()
        }

    @property
    def room(self) -> float:
        return self.model.room

    @property
    def rows(self) -> tuple[Allocation, ...]:
        return self._rows

    def bpw(self, allocation: Allocation) -> float:
        return self.model.bpw(allocation)

    def fits(self, allocation: Allocation) -> bool:
        return allocation in self._rows

    def nearest(
        self, allocation: Allocation, taken: Collection[str] = ()
    ) -> Allocation | None:
        free = [row for row in self._rows if row.digest not in taken]
        wanted = [choice.bits for _, choice in allocation]

        def distance(row: Allocation) -> int:
            own = [choice.bits for _, choice in row]
            return sum(abs(a - b) for a, b in zip(own, wanted, strict=True))

        return min(free, key=distance, default=None)


@pytest.fixture
def space() -> ModelSpace:
    return five_groups()


def loss(key: str, choice: Choice) -> float:
    """What a choice costs a group: by its bits, its method and the group's name."""
    if choice.bits == 16:
        return 0.0
    weight = 1 + sum(map(ord, key)) % 5
    return weight * 2.0**-choice.bits * (1.0 if choice.method == "awq" else 1.5)


def score(allocation: Allocation) -> float:
    return 100 - math.fsum(loss(key, choice) for key, choice in allocation)


def strategy(name: str, space: Space, seed: int = 0, prior: bool = False) -> Strategy:
    table = {(key, c): loss(key, c) for key in space.keys for c in space.choices}
    make = load("allocator.strategies", name)
    found: Strategy = make(space, seed, table if prior else None)
    return found


def add(
    study: optuna.Study,
    space: ModelSpace,
    allocation: Allocation,
    state: TrialState = TrialState.COMPLETE,
) -> None:
    study.add_trial(
        create_trial(
            state=state,
            value=score(allocation) if state == TrialState.COMPLETE else None,
            params=space.params(allocation),
            distributions=dict(space.distributions),
        )
    )


def started(space: ModelSpace) -> optuna.Study:
    """A study as a search leaves it to a strategy: the baselines are measured."""
    study = optuna.create_study(direction="maximize")
    for allocation in (space.full, *(a for a in space.uniform if space.fits(a))):
        add(study, space, allocation)
    return study


@cache
def searched(name: str, prior: bool) -> tuple[Allocation, ...]:
    """What a strategy proposes when Optuna asks it, seed 0."""
    space = five_groups()
    study, found = started(space), []
    study.sampler = strategy(name, space, prior=prior)
    for _ in range(PROPOSALS):
        trial = study.ask(dict(space.distributions))
        found.append(space.allocation(trial.params))
        study.tell(trial, score(found[-1]))
    return tuple(found)


def resumed(
    name: str, space: ModelSpace, seed: int, prior: bool, count: int
) -> tuple[Allocation, ...]:
    """What a strategy proposes that is made anew each time, as by a resumed search."""
    study, found = started(space), []
    for _ in range(count):
        params = strategy(name, space, seed, prior).sample_relative(study, None, {})
        found.append(space.allocation(params))
        add(study, space, found[-1])
    return tuple(found)


@EACH
@EACH_PRIOR
def test_proposals_keep_the_budget_and_never_repeat_a_measurement(
    name: str, prior: bool, space: ModelSpace
) -> None:
    baselines = {space.allocation(t.params).digest for t in started(space).trials}
    found = searched(name, prior)
    assert all(space.fits(allocation) for allocation in found)
    digests = {allocation.digest for allocation in found}
    assert len(digests) == PROPOSALS
    assert not digests & baselines


@EACH
@EACH_PRIOR
def test_a_search_that_was_stopped_goes_on_as_it_would_have(
    name: str, prior: bool, space: ModelSpace
) -> None:
    assert resumed(name, space, 0, prior, 4) == searched(name, prior)[:4]


@EACH
def test_another_seed_gives_other_proposals_where_there_is_chance(
    name: str, space: ModelSpace
) -> None:
    other, usual = resumed(name, space, 1, False, 2), searched(name, False)[:2]
    assert (other != usual) == strategy(name, space).seeded


@EACH
@EACH_PRIOR
@pytest.mark.parametrize("count", [1, 5])
def test_candidates_are_different_ones_that_may_be_measured(
    name: str, prior: bool, count: int, space: ModelSpace
) -> None:
    known = Known.of(space, started(space))
    for _ in range(4):
        found = [
            c.allocation for c in strategy(name, space, 0, prior).ask(known, count)
        ]
        assert 1 <= len(found) <= count
        assert all(map(space.fits, found))
        assert len({a.digest for a in found} - known.taken) == len(found)
        known = Known(
            (*known.measured, (found[0], score(found[0]))),
            ((found[-1], score(found[-1])),),
            known.taken | {found[0].digest},
        )


@EACH
@EACH_PRIOR
def test_it_starts_from_nothing(name: str, prior: bool, space: ModelSpace) -> None:
    (first,) = strategy(name, space, prior=prior).ask(Known(()))
    assert space.fits(first.allocation)


@EACH
@EACH_PRIOR
def test_all_rows_of_a_table_are_proposed_once_and_nothing_else(
    name: str, prior: bool
) -> None:
    table = Rows(five_groups())
    made, measured, taken = strategy(name, table, prior=prior), [], set()
    for _ in table.rows:
        found = made.ask(Known(tuple(measured), (), frozenset(taken)), 3)
        assert {c.allocation for c in found} <= set(table.rows)
        assert found[0].allocation.digest not in taken
        measured.append((found[0].allocation, score(found[0].allocation)))
        taken.add(found[0].allocation.digest)
    assert made.ask(Known(tuple(measured), (), frozenset(taken))) == []


@EACH
@EACH_PRIOR
def test_what_another_worker_measures_just_now_is_not_proposed(
    name: str, prior: bool, space: ModelSpace
) -> None:
    study = started(space)
    asked = strategy(name, space, prior=prior)
    first = space.allocation(asked.sample_relative(study, None, {}))
    add(study, space, first, TrialState.RUNNING)
    assert space.allocation(asked.sample_relative(study, None, {})) != first


@EACH
@EACH_PRIOR
@pytest.mark.parametrize("count", [1, 5])
def test_nothing_that_is_pending_is_proposed_again(
    name: str, prior: bool, count: int, space: ModelSpace
) -> None:
    known = Known.of(space, started(space))
    asked = strategy(name, space, prior=prior)
    lists = at_once(asked, known, 4, count)
    found = [each.allocation for own in lists for each in own]
    assert len(lists) == 4
    assert all(map(space.fits, found))
    assert len({a.digest for a in found} - known.taken) == len(found)
    # the first is what would be proposed alone
    assert lists[0] == strategy(name, space, prior=prior).ask(known, count)


@EACH
@EACH_PRIOR
def test_where_all_that_is_left_is_pending_nothing_is_proposed(
    name: str, prior: bool
) -> None:
    table = Rows(five_groups())
    lists = at_once(strategy(name, table, prior=prior), Known(()), 20)
    assert {own[0].allocation for own in lists} == set(table.rows)
    assert len(lists) == len(table.rows)


@EACH
def test_a_trial_that_failed_may_be_tried_again(name: str, space: ModelSpace) -> None:
    study = started(space)
    asked = strategy(name, space)
    first = space.allocation(asked.sample_relative(study, None, {}))
    add(study, space, first, TrialState.FAIL)
    assert space.allocation(asked.sample_relative(study, None, {})) == first


@EACH
@EACH_PRIOR
def test_a_tiny_space_is_exhausted_by_an_empty_answer(name: str, prior: bool) -> None:
    linears = [Linear(f"{b}", "language", b, "ff", 16, 16) for b in range(2)]
    spec = ModelSpec("tiny", 512, build_groups(linears, "block"), ())
    choices = (Choice(2, "awq"), Choice(4, "awq"), Choice(16))
    # everything at 4 bits: two of 128 + 32 + 8 + 16 bytes over 512 weights, 5.75 bits
    tiny = ModelSpace(spec, Scheme(), choices, Budget(5.8))
    # of nine allocations the four without 16 bits fit, and two are measured
    study = started(tiny)
    asked = strategy(name, tiny, prior=prior)
    found = []
    for _ in range(5):
        params = asked.sample_relative(study, None, {})
        if not params:
            break
        found.append(tiny.allocation(params))
        add(study, tiny, found[-1])
    assert params == {}
    assert len(found) <= 2
    assert asked.sample_relative(study, None, {}) == {}


@EACH
def test_a_parameter_that_is_no_group_is_refused(name: str, space: ModelSpace) -> None:
    study = optuna.create_study(sampler=strategy(name, space))
    trial = study.ask()
    with pytest.raises(ValueError, match="'temperature' is not a group"):
        trial.suggest_float("temperature", 0, 1)


@EACH
@EACH_PRIOR
def test_it_does_better_than_every_uniform_allocation_of_the_budget(
    name: str, prior: bool, space: ModelSpace
) -> None:
    best_uniform = max(score(a) for a in space.uniform if space.fits(a))
    assert max(map(score, searched(name, prior))) > best_uniform
