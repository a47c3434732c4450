"""Every strategy keeps its pins, found without being listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.pins import Pins
from allocator.space.model import ModelSpace
from allocator.strategies._base import Known
from tests.contracts.test_strategy import (
    CHOICES,
    EACH,
    EACH_PRIOR,
    add,
    five_groups,
    squares,
    started,
    strategy,
)

if TYPE_CHECKING:
    from allocator.core.allocation import Allocation


def pinned(*, full: bool = True) -> ModelSpace:
    """The same groups, four of them pinned in every way there is.

    Without `full`, 16 bits are no choice but for the group that is pinned to them.
    """
    pins = Pins(
        ("language.02.ff=16", "language.01.ff=4/awq"),
        ("language.00.ff=3",),
        ("language.03.ff=4", "language.00.ff=8"),
    )
    choices = CHOICES if full else CHOICES[:-1]
    spec = squares((64, 48, 32, 96, 80))
    return ModelSpace(spec, Scheme(), choices, Budget(5.0), pins)


def keeps(allocation: Allocation) -> bool:
    """Whether an allocation is as `pinned` asks, spelt out."""
    own = [choice for _, choice in allocation]
    fixed = own[1] == Choice(4, "awq") and own[2] == Choice(16)
    return fixed and 3 <= own[0].bits <= 8 and own[3].bits <= 4


@EACH
@EACH_PRIOR
@pytest.mark.parametrize("full", [True, False], ids=["sixteen", "below"])
def test_proposals_keep_the_pins_whatever_was_measured_without_them(
    name: str, prior: bool, full: bool
) -> None:
    space, free = pinned(full=full), five_groups()
    study = started(space)
    # of an earlier search, better ones among them
    for allocation in (*free.uniform, free.full.replace({free.keys[3]: CHOICES[0]})):
        if full or Choice(16) not in dict(allocation.choices).values():
            add(study, space, allocation)
    found = []
    for _ in range(8):
        params = strategy(name, space, 0, prior).sample_relative(study, None, {})
        found.append(space.allocation(params))
        add(study, space, found[-1])
    assert all(map(keeps, found))
    assert all(map(space.fits, found))
    assert len({allocation.digest for allocation in found}) == 8
    # more than one width and more than one method where there is a choice
    assert len({allocation[space.keys[4]] for allocation in found}) > 1


@EACH
@EACH_PRIOR
def test_pins_that_leave_one_allocation_leave_one_proposal(
    name: str, prior: bool
) -> None:
    texts = ("language.00.ff=16", "*.01.*=4/awq", "*.0[234].*=2/uniform")
    spec = squares((64, 48, 32, 96, 80))
    space = ModelSpace(spec, Scheme(), CHOICES[:-1], Budget(16.0), Pins(texts))
    asked = strategy(name, space, prior=prior)
    (only,) = asked.ask(Known(()), 1)
    assert only.allocation == space.smallest
    known = Known(((only.allocation, 50.0),), (), frozenset([only.allocation.digest]))
    assert asked.ask(known, 5) == []
