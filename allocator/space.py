"""The search space: what each group may get, what it costs, and Optuna's view of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution

from allocator.core.allocation import (
    FULL,
    Allocation,
    Budget,
    Choice,
    Scheme,
    Size,
    linear_bytes,
    stored_size,
)
from allocator.core.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.spec import ModelSpec

SLACK = 1e-6  # bytes


@dataclass(frozen=True)
class Space:
    """Choices for every group of a model, under a budget.

    Raises:
        BudgetError: even the smallest allocation is over the budget.
    """

    spec: ModelSpec
    scheme: Scheme
    choices: tuple[Choice, ...]
    budget: Budget

    def __post_init__(self) -> None:
        if not self.fits(self.smallest):
            size, scope = self.size(self.smallest), self.budget.scope
            # rounded up, so that what is printed can be asked for
            least = math.ceil(size.bpw(scope) * 10_000) / 10_000
            given, bytes_ = self.budget.bpw(self.spec), self.budget.bytes(self.spec)
            raise BudgetError(
                f"budget {given:.4f} bpw ({bytes_:,.0f} bytes) is "
                f"below the smallest possible, {least:.4f} bpw ({size.stored(scope):,} "
                f"bytes; {scope} scope, every group at {self.choices[0]})"
            )

    @property
    def smallest(self) -> Allocation:
        """The narrowest uniform allocation."""
        return Allocation.uniform(self.spec, self.choices[0])

    @property
    def full(self) -> Allocation:
        """Everything at 16 bit."""
        return Allocation.uniform(self.spec, Choice(FULL))

    @cached_property
    def uniform(self) -> tuple[Allocation, ...]:
        """Every uniform allocation below 16 bit, narrow to wide."""
        low = [choice for choice in self.choices if choice.bits < FULL]
        return tuple(Allocation.uniform(self.spec, choice) for choice in low)

    @cached_property
    def by_width(self) -> dict[int, list[Choice]]:
        """Choices of each width, narrow to wide."""
        found: dict[int, list[Choice]] = {}
        for choice in self.choices:
            found.setdefault(choice.bits, []).append(choice)
        return found

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Widths a group may get, rising."""
        return tuple(self.by_width)

    @cached_property
    def group_bytes(self) -> dict[str, dict[int, int]]:
        """Stored bytes of each group at each width."""
        return {
            group.key: {
                bits: sum(linear_bytes(x, self.scheme, bits) for x in group.linears)
                for bits in self.widths
            }
            for group in self.spec.groups
        }

    @cached_property
    def room(self) -> float:
        """Bytes the budget leaves for the groups."""
        rest = 0 if self.budget.scope == "quantized" else 2 * self.spec.rest
        return self.budget.bytes(self.spec) - rest + SLACK

    def bytes(self, allocation: Allocation) -> int:
        """Bytes of all groups; what `room` bounds."""
        return sum(self.group_bytes[key][choice.bits] for key, choice in allocation)

    def size(self, allocation: Allocation) -> Size:
        """Stored size in both scopes."""
        return stored_size(self.spec, self.scheme, allocation)

    def bpw(self, allocation: Allocation) -> float:
        """Bits per weight in the budget's scope."""
        return self.size(allocation).bpw(self.budget.scope)

    def fits(self, allocation: Allocation) -> bool:
        """Whether an allocation keeps the budget."""
        return self.budget.fits(self.spec, self.size(allocation))

    @cached_property
    def distributions(self) -> dict[str, CategoricalDistribution]:
        """Optuna's parameters: one category for each group.

        16 bits are always among them, since full precision is always measured.
        """
        labels = tuple(self.by_label)
        return {key: CategoricalDistribution(labels) for key in self.spec.keys}

    @cached_property
    def by_label(self) -> dict[str, Choice]:
        """Choices by the label Optuna keeps, 16 bits always among them."""
        return {str(choice): choice for choice in (*self.choices, Choice(FULL))}

    def params(self, allocation: Allocation) -> dict[str, str]:
        """An allocation as Optuna's parameters."""
        return {key: str(choice) for key, choice in allocation}

    def allocation(self, params: Mapping[str, Any]) -> Allocation:
        """Optuna's parameters as an allocation."""
        return Allocation.of(
            self.spec, {key: self.by_label[label] for key, label in params.items()}
        )
