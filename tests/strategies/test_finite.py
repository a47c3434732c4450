"""Strategies propose whatever of what they are told is no finite number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest

from allocator.core.finite import finite_damage
from allocator.core.plugins import available, load
from allocator.space.model import within
from allocator.strategies._base import Known
from allocator.strategies._knapsack import knapsack
from allocator.strategies._moves import scatter
from tests.searches import damage_of, score, space_of

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec

NONE = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("name", available("allocator.strategies"))
def test_it_proposes_what_is_new_and_fits(name: str, toy: ModelSpec) -> None:
    space, rng = space_of(toy), np.random.default_rng(0)
    damage = damage_of(space)
    broken = dict(zip([at for at in damage if at[1].bits == 2], NONE * 9, strict=False))
    drawn = {a.digest: a for a in (scatter(space, rng) for _ in range(40))}
    known = [*drawn.values()][:12]
    scores = [score(a) for a in known[:9]]
    pairs = tuple(zip(known, [*scores, *NONE], strict=True))
    strategy = load("allocator.strategies", name)(space, 0, {**damage, **broken})
    told = Known(pairs, pairs, frozenset(a.digest for a in known))
    found = strategy.ask(told, 4)
    assert found
    for each in found:
        assert space.fits(each.allocation)
        assert each.allocation.digest not in told.taken
        assert each.predicted is None or math.isfinite(each.predicted)


def test_an_optuna_study_with_infinite_values_is_sampled(toy: ModelSpec) -> None:
    space = space_of(toy)
    study = optuna.create_study(direction="maximize")
    for allocation, value in zip(space.uniform[:4], (80, 81, *NONE[1:]), strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                value=value,
                params=space.params(allocation),
                distributions=dict(space.distributions),
            )
        )
    strategy = load("allocator.strategies", "surrogate")(space, 0, damage_of(space))
    params = strategy.sample_relative(study, None, {})
    assert space.fits(space.allocation(params))


@pytest.mark.parametrize("exponent", [0.5, 0.7, 1.0, 1.4])
def test_the_knapsack_does_without_choices_that_overflowed_wherever_it_can(
    toy: ModelSpec, exponent: float
) -> None:
    space = space_of(toy)
    # all of vision and the connector at 2 bits: what is left fits 5 bits with 4
    damage = {
        at: math.nan if at[1].bits == 2 and not at[0].startswith("language") else value
        for at, value in damage_of(space).items()
    }
    raised = {at: value**exponent for at, value in finite_damage(damage).items()}
    found = knapsack(space, raised)
    assert space.fits(found)
    assert all(c.bits > 2 for k, c in found if not k.startswith("language"))
    # where nothing else fits it is taken all the same
    tight = within(space, space.bpw(space.smallest))
    assert {c.bits for _, c in knapsack(tight, raised)} == {2}
