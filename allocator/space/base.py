"""What each group may get, what it costs, and Optuna's view of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution

from allocator.core.allocation import FULL, Allocation, Choice
from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

SLACK = 1e-6  # bytes


class Space(ABC):
    """What each group may get and what it costs, under a budget.

    `keys` are the groups, `choices` what each may get that no pin decides, narrow to
    wide, and `room` the bytes that all groups together may take.
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

    @cached_property
    def allowed(self) -> Mapping[str, tuple[Choice, ...]]:
        """What each group may get, narrow to wide: every choice, where nothing pins."""
        return dict.fromkeys(self.keys, self.choices)

    @cached_property
    def pinned(self) -> dict[str, tuple[Choice, ...]]:
        """What the groups may get that may not get just any choice."""
        own = self.allowed.items()
        return {key: choices for key, choices in own if choices != self.choices}

    def keeps_pins(self, allocation: Allocation) -> bool:
        """Whether all groups have what their pins allow, of any size."""
        if not self.pinned:
            return True
        return all(c in self.pinned.get(key, (c,)) for key, c in allocation)

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
        """Bytes of all groups; what `room` bounds.

        Raises:
            SpecError: single linears differ, and only groups' sizes are known.
        """
        if allocation.layers:
            raise SpecError(
                f"{len(allocation.layers)} single linears differ from their groups, "
                "and a study keeps the sizes of groups alone"
            )
        return sum(self.group_bytes[key][choice.bits] for key, choice in allocation)

    def fits(self, allocation: Allocation) -> bool:
        """Whether an allocation keeps the budget, with nothing but what is allowed.

        Full precision is always measured, and may be no choice.
        """
        allowed = all(choice in self._sets[key] for key, choice in allocation)
        return allowed and self.bytes(allocation) <= self.room

    @cached_property
    def _sets(self) -> dict[str, frozenset[Choice]]:
        sets = {choices: frozenset(choices) for choices in self.allowed.values()}
        return {key: sets[choices] for key, choices in self.allowed.items()}

    @cached_property
    def levels(self) -> dict[str, dict[int, list[Choice]]]:
        """For each group the choices of each width it may get, narrow to wide."""
        made = {choices: _by_width(choices) for choices in self.allowed.values()}
        return {key: made[choices] for key, choices in self.allowed.items()}

    def alike(self, choice: Choice) -> Allocation:
        """The same choice in every group."""
        return Allocation(tuple((key, choice) for key in self.keys))

    def near(self, choice: Choice) -> Allocation:
        """A choice in every group that may get it, elsewhere the nearest allowed."""
        picks = ((key, nearest_of(self.levels[key], choice)) for key in self.keys)
        return Allocation(tuple(picks))

    @property
    def smallest(self) -> Allocation:
        """The first allowed choice in every group: the least size."""
        return Allocation(tuple((key, self.allowed[key][0]) for key in self.keys))

    @property
    def widest(self) -> Allocation:
        """The last allowed choice in every group: the largest size."""
        return Allocation(tuple((key, self.allowed[key][-1]) for key in self.keys))

    @property
    def full(self) -> Allocation:
        """Everything at 16 bit."""
        return self.alike(Choice(FULL))

    @cached_property
    def uniform(self) -> tuple[Allocation, ...]:
        """Every uniform allocation below 16 bit, narrow to wide.

        Pinned groups have the nearest to it that they may get.
        """
        return tuple(self._uniform)

    @cached_property
    def _uniform(self) -> dict[Allocation, Choice]:
        found: dict[Allocation, Choice] = {}
        for choice in (c for c in self.choices if c.bits < FULL):
            allocation = self.near(choice)
            known = found.get(allocation)
            # what pins make equal is named by the choice that most groups have
            if known is None or _count(allocation, choice) > _count(allocation, known):
                found[allocation] = choice
        return found

    def uniform_choice(self, uniform: Allocation) -> Choice:
        """What all groups of a uniform allocation have that no pin decides."""
        return self._uniform[uniform]

    @cached_property
    def by_width(self) -> dict[int, list[Choice]]:
        """Choices of each width, narrow to wide."""
        return _by_width(self.choices)

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


def _by_width(choices: Sequence[Choice]) -> dict[int, list[Choice]]:
    found: dict[int, list[Choice]] = {}
    for choice in choices:
        found.setdefault(choice.bits, []).append(choice)
    return found


def _count(allocation: Allocation, choice: Choice) -> int:
    return sum(own == choice for _, own in allocation)


def of_method(choices: Sequence[Choice], method: str | None) -> Choice:
    """The choice by a method, if there is one; else the first."""
    return next((choice for choice in choices if choice.method == method), choices[0])


def nearest_of(levels: Mapping[int, Sequence[Choice]], choice: Choice) -> Choice:
    """The nearest width that there is, by the method of a choice if there is that."""
    bits = min(levels, key=lambda width: abs(width - choice.bits))
    return of_method(levels[bits], choice.method)
