"""A model's search space: loaded, or as a study keeps it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import (
    FULL,
    Allocation,
    Budget,
    Choice,
    Scheme,
    Size,
    digest,
    rest_bytes,
    stored_size,
    summed_bytes,
)
from allocator.core.errors import BudgetError, SpecError
from allocator.core.holding import fused
from allocator.core.pins import NO_PINS, Pins, in_words
from allocator.core.targets import TARGETS
from allocator.space.base import SLACK, Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.spec import ModelSpec


@dataclass(frozen=True)
class ModelSpace(Space):
    """Everything a model's groups may get.

    Raises:
        BudgetError: even the smallest allocation is over the budget.
        SpecError: pins that match no group, exclude each other or leave nothing to
            quantize.
    """

    spec: ModelSpec
    scheme: Scheme
    choices: tuple[Choice, ...]
    budget: Budget
    pins: Pins = NO_PINS

    def __post_init__(self) -> None:
        if self.pins and self.smallest == self.full:
            raise SpecError(
                f"the pins ({in_words(self.pins.to_json())}) keep every group at 16 "
                "bits: that is full precision, which `allocate evaluate` scores"
            )
        if not self.fits(self.smallest):
            size, scope = self.size(self.smallest), self.budget.scope
            # rounded up, so that what is printed can be asked for
            least = math.ceil(size.bpw(scope) * 10_000) / 10_000
            given, bytes_ = self.budget.bpw(self.spec), self.budget.bytes(self.spec)
            words = in_words(self.pins.to_json())
            under = f" under the pins {words}" if words else ""
            each = "as narrow as it may be" if words else f"at {self.choices[0]}"
            raise BudgetError(
                f"budget {given:.4f} bpw ({bytes_:,.0f} bytes) is below the smallest "
                f"possible{under}, {least:.4f} bpw ({size.stored(scope):,} bytes; "
                f"{scope} scope, every group {each})"
            )

    @cached_property
    def allowed(self) -> dict[str, tuple[Choice, ...]]:
        """What each group may get, narrow to wide."""
        return self.pins.allowed(self.keys, self.choices)

    @property
    def keys(self) -> tuple[str, ...]:
        """Group keys in order."""
        return self.spec.keys

    @cached_property
    def group_bytes(self) -> dict[str, dict[int, int]]:
        """Stored bytes of each group at each width."""
        found: dict[str, dict[int, int]] = {}
        # single experts are thousands of groups of one shape
        alike: dict[tuple[tuple[int, int], ...], dict[int, int]] = {}
        for group in self.spec.groups:
            shapes = tuple((x.out_features, x.in_features) for x in group.linears)
            if shapes not in alike:
                alike[shapes] = {
                    bits: summed_bytes(((x, bits) for x in group.linears), self.scheme)
                    for bits in (*self.widths, FULL)
                }
            found[group.key] = alike[shapes]
        return found

    @cached_property
    def room(self) -> float:
        """Bytes the budget leaves for the groups."""
        rest = 0 if self.budget.scope == "quantized" else self._rest
        return self.budget.bytes(self.spec) - rest + SLACK

    @property
    def _rest(self) -> int:
        """Bytes beside the groups."""
        return rest_bytes(self.spec, self.scheme)

    @property
    def costs(self) -> dict[str, Any]:
        """What a study keeps of it, for `KeptSpace`."""
        return {
            "group_bytes": self.group_bytes,
            "rest": self.spec.rest,
            "rest_bytes": self._rest,
            "parameters": self.spec.parameters,
            "weights": self.spec.weights,
            "choices": [str(choice) for choice in self.choices],
        }

    def bytes(self, allocation: Allocation) -> float:
        """Bytes of all groups, exceptions counted in."""
        if not allocation.layers:
            return super().bytes(allocation)
        return self.size(allocation).quantized_bytes

    def keeps_pins(self, allocation: Allocation) -> bool:
        """Whether every pinned group has what it may get, with each of its linears."""
        return super().keeps_pins(allocation) and all(
            choice in self.pinned.get(key, (choice,))
            for key, choice in self._exceptions(allocation)
        )

    def fits(self, allocation: Allocation) -> bool:
        """Whether an allocation keeps the budget, with nothing but what is allowed."""
        return super().fits(allocation) and all(
            choice in self.allowed[key] for key, choice in self._exceptions(allocation)
        )

    def _exceptions(self, allocation: Allocation) -> list[tuple[str, Choice]]:
        """What single linears have instead of their group's choice, by the group."""
        return [(self._group_of[name], choice) for name, choice in allocation.layers]

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {x.name: group.key for group in self.spec.groups for x in group.linears}

    def by_linear(self) -> FineSpace:
        """The same space with a choice for each linear, or set that the target fuses.

        Each may get what its group may.
        """
        spec = self.spec.by_linear(fused(self.spec, TARGETS[self.scheme.target]))
        return FineSpace(
            spec, self.scheme, self.choices, self.budget, self.pins, coarse=self
        )

    def size(self, allocation: Allocation) -> Size:
        """Stored size in both scopes."""
        return stored_size(self.spec, self.scheme, allocation)

    def bpw(self, allocation: Allocation) -> float:
        """Bits per weight, as the budget counts them."""
        return self.size(allocation).bpw(self.budget.scope)


@dataclass(frozen=True)
class FineSpace(ModelSpace):
    """A space of single linears, which may get what their groups in `coarse` may."""

    coarse: ModelSpace = field(kw_only=True)

    @cached_property
    def allowed(self) -> dict[str, tuple[Choice, ...]]:
        """What each linear may get, narrow to wide."""
        allowed, groups = self.coarse.allowed, self.coarse._group_of
        return {g.key: allowed[groups[g.linears[0].name]] for g in self.spec.groups}

    def coarsened(self, allocation: Allocation) -> Allocation:
        """An allocation of single linears in terms of groups and exceptions."""
        return allocation.over(self.spec, self.coarse.spec)


@dataclass(frozen=True)
class KeptSpace(Space):
    """A model's space as a study keeps it: sizes alone, no model needed.

    `kept` is what `ModelSpace.costs` gave.
    """

    kept: Mapping[str, Any]
    budget: Budget
    pins: Pins = NO_PINS

    @cached_property
    def choices(self) -> tuple[Choice, ...]:  # type: ignore[override]
        """What each group may get, narrow to wide."""
        return tuple(Choice.parse(label) for label in self.kept["choices"])

    @property
    def keys(self) -> tuple[str, ...]:
        """Group keys in order."""
        return tuple(self.kept["group_bytes"])

    @cached_property
    def allowed(self) -> dict[str, tuple[Choice, ...]]:
        """What each group may get, narrow to wide."""
        return self.pins.allowed(self.keys, self.choices)

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
        if self.budget.scope == "quantized":
            return 0
        # studies of before say no bytes, and all had two a parameter
        return int(self.kept.get("rest_bytes", 2 * self.kept["rest"]))

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
    """Name of a budget by the bytes it leaves for the groups, and of the pins."""
    return f"{space.room:.3f}/{space.budget.scope}{pins_name(space)}"


def pins_name(space: ModelSpace | KeptSpace) -> str:
    """Name of a space's pins by what they allow, however spelt; "" where nothing is."""
    own = {key: [str(c) for c in choices] for key, choices in space.pinned.items()}
    return f"/pins {digest(own)}" if own else ""


def limit_of(space: ModelSpace) -> float:
    """A space's budget in bits per weight."""
    return space.budget.bpw(space.spec)


def of_size(space: ModelSpace, allocation: Allocation) -> ModelSpace:
    """The same space with the stored size of an allocation as its budget."""
    scope = space.budget.scope
    size = space.size(allocation).stored(scope)
    return replace(space, budget=Budget(size, "bytes", scope))


def within(space: ModelSpace, bpw: float) -> ModelSpace:
    """The same space under another budget."""
    return replace(space, budget=Budget(bpw, "bpw", space.budget.scope))
