"""The search space: what each group may get, what it costs, and Optuna's view of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
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
    from collections.abc import Collection, Mapping, Sequence

    from allocator.core.spec import ModelSpec

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


@dataclass(frozen=True)
class ModelSpace(Space):
    """Everything a model's groups may get.

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
    def keys(self) -> tuple[str, ...]:
        """Group keys in order."""
        return self.spec.keys

    @cached_property
    def group_bytes(self) -> dict[str, dict[int, int]]:
        """Stored bytes of each group at each width."""
        return {
            group.key: {
                bits: sum(linear_bytes(x, self.scheme, bits) for x in group.linears)
                for bits in (*self.widths, FULL)
            }
            for group in self.spec.groups
        }

    @cached_property
    def room(self) -> float:
        """Bytes the budget leaves for the groups."""
        rest = 0 if self.budget.scope == "quantized" else 2 * self.spec.rest
        return self.budget.bytes(self.spec) - rest + SLACK

    @property
    def costs(self) -> dict[str, Any]:
        """What a study keeps of it, for `KeptSpace`."""
        return {
            "group_bytes": self.group_bytes,
            "rest": self.spec.rest,
            "parameters": self.spec.parameters,
            "weights": self.spec.weights,
            "choices": [str(choice) for choice in self.choices],
        }

    def size(self, allocation: Allocation) -> Size:
        """Stored size in both scopes."""
        return stored_size(self.spec, self.scheme, allocation)

    def bpw(self, allocation: Allocation) -> float:
        """Bits per weight, as the budget counts them."""
        return self.size(allocation).bpw(self.budget.scope)


@dataclass(frozen=True)
class KeptSpace(Space):
    """A model's space as a study keeps it: sizes alone, no model needed.

    `kept` is what `ModelSpace.costs` gave.
    """

    kept: Mapping[str, Any]
    budget: Budget

    @cached_property
    def choices(self) -> tuple[Choice, ...]:  # type: ignore[override]
        """What each group may get, narrow to wide."""
        return tuple(Choice.parse(label) for label in self.kept["choices"])

    @property
    def keys(self) -> tuple[str, ...]:
        """Group keys in order."""
        return tuple(self.kept["group_bytes"])

    @cached_property
    def group_bytes(self) -> dict[str, dict[int, int]]:
        """Stored bytes of each group at each width."""
        return {
            key: {int(bits): size for bits, size in sizes.items()}
            for key, sizes in self.kept["group_bytes"].items()
        }

    @property
    def _weights(self) -> int:
        """Weights that the budget counts."""
        scope = self.budget.scope
        return int(self.kept["weights" if scope == "quantized" else "parameters"])

    @property
    def _rest(self) -> int:
        """Bytes beside the groups that the budget counts."""
        return 0 if self.budget.scope == "quantized" else 2 * int(self.kept["rest"])

    @cached_property
    def room(self) -> float:
        """Bytes the budget leaves for the groups."""
        limit = self.budget.limit
        if self.budget.unit == "bpw":
            limit = limit * self._weights / 8
        return limit - self._rest + SLACK

    def bpw(self, allocation: Allocation) -> float:
        """Bits per weight, as the budget counts them."""
        return 8 * (self.bytes(allocation) + self._rest) / self._weights


def within_name(space: ModelSpace | KeptSpace) -> str:
    """Name of a budget by the bytes it leaves for the groups."""
    return f"{space.room:.3f}/{space.budget.scope}"


def limit_of(space: ModelSpace) -> float:
    """A space's budget in bits per weight."""
    return space.budget.bpw(space.spec)


def within(space: ModelSpace, bpw: float) -> ModelSpace:
    """The same space under another budget."""
    return replace(space, budget=Budget(bpw, "bpw", space.budget.scope))
