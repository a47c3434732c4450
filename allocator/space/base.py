"""What each group may get, what it costs, and Optuna's view of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution

from allocator.core.allocation import FULL, Allocation, Choice

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SLACK = 1e-6  # bytes


class Space(ABC):
    """What each group may get and what it costs, under a budget.

    `keys` are the groups, `choices` what each may get, narrow to wide, and `room` the
    bytes that all groups together may take.
    """

    choices: tuple[Choice, ...]

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Group keys in order."""

    @property
    @abstractmethod
    def group_bytes(self) -> Mapping[str, Mapping[int, float]]:
        """Stored bytes of each group at each width."""

    @property
    @abstractmethod
    def room(self) -> float:
        """Bytes the budget leaves for the groups."""

    @abstractmethod
    def bpw(self, allocation: Allocation) -> float:
        """Bits per weight, as the budget counts them."""

    @property
    def rows(self) -> Sequence[Allocation] | None:
        """The only allocations that can be measured and fit; None: all that fit."""
        return None

    def nearest(
        self, allocation: Allocation, taken: Collection[str] = ()
    ) -> Allocation | None:
        """The nearest allocation that can be measured, fits and is not in `taken`.

        None where there is none; where everything can be measured, the allocation
        itself or none.
        """
        free = allocation.digest not in taken and self.fits(allocation)
        return allocation if free else None

    def bytes(self, allocation: Allocation) -> float:
        """Bytes of all groups; what `room` bounds."""
        return sum(self.group_bytes[key][choice.bits] for key, choice in allocation)

    def fits(self, allocation: Allocation) -> bool:
        """Whether an allocation keeps the budget, with nothing but these choices.

        Full precision is always measured, and may be no choice.
        """
        allowed = all(choice in self._allowed for _, choice in allocation)
        return allowed and self.bytes(allocation) <= self.room

    @cached_property
    def _allowed(self) -> frozenset[Choice]:
        return frozenset(self.choices)

    def alike(self, choice: Choice) -> Allocation:
        """The same choice in every group."""
        return Allocation(tuple((key, choice) for key in self.keys))

    @property
    def smallest(self) -> Allocation:
        """The narrowest uniform allocation."""
        return self.alike(self.choices[0])

    @property
    def full(self) -> Allocation:
        """Everything at 16 bit."""
        return self.alike(Choice(FULL))

    @cached_property
    def uniform(self) -> tuple[Allocation, ...]:
        """Every uniform allocation below 16 bit, narrow to wide."""
        return tuple(self.alike(c) for c in self.choices if c.bits < FULL)

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
    def distributions(self) -> dict[str, CategoricalDistribution]:
        """Optuna's parameters: one category for each group.

        16 bits are always among them, since full precision is always measured.
        """
        labels = tuple(self.by_label)
        return {key: CategoricalDistribution(labels) for key in self.keys}

    @cached_property
    def by_label(self) -> dict[str, Choice]:
        """Choices by the label Optuna keeps, 16 bits always among them."""
        return {str(choice): choice for choice in (*self.choices, Choice(FULL))}

    def params(self, allocation: Allocation) -> dict[str, str]:
        """An allocation as Optuna's parameters."""
        return {key: str(choice) for key, choice in allocation}

    def allocation(self, params: Mapping[str, Any]) -> Allocation:
        """Optuna's parameters as an allocation.

        Raises:
            SpecError: not every group, or something else, has a choice.
        """
        return Allocation.of(
            self.keys, {k: self.by_label[v] for k, v in params.items()}
        )
