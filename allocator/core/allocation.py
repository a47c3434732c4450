"""Bits and method for every group, and the one place that adds up bits."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from allocator.core.errors import BudgetError, SpecError, UnknownNameError
from allocator.core.layouts import LAYOUTS, Layout, Matrix
from allocator.core.scheme import FULL as FULL
from allocator.core.scheme import GROUP_SIZES as GROUP_SIZES
from allocator.core.scheme import ROUNDING as ROUNDING
from allocator.core.scheme import SCALE_TYPES as SCALE_TYPES
from allocator.core.scheme import WIDTHS as WIDTHS
from allocator.core.scheme import Choice as Choice
from allocator.core.scheme import Scheme as Scheme
from allocator.core.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from allocator.core.spec import Linear, ModelSpec

SCOPES = ("model", "quantized")
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
# characters of a budget
LONGEST = 100
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}

Scope = Literal["model", "quantized"]
# made once: `json.dumps` makes one for each digest
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Allocation:
    """A choice for every group, in the order of the model's groups.

    `layers` are the exceptions: single linears by full name, sorted, that have another
    choice than their group.
    """

    choices: tuple[tuple[str, Choice], ...]
    layers: tuple[tuple[str, Choice], ...] = ()

    @staticmethod
    def of(keys: Sequence[str], choices: Mapping[str, Choice]) -> Allocation:
        """Check that every group has a choice and no other key is given."""
        unknown = sorted(set(choices) - set(keys))
        missing = [key for key in keys if key not in choices]
        if unknown or missing:
            raise SpecError(
                f"an allocation names every group once; unknown: {unknown}, "
                f"missing: {missing}"
            )
        return Allocation(tuple((key, choices[key]) for key in keys))

    @staticmethod
    def uniform(spec: ModelSpec, choice: Choice) -> Allocation:
        """The same choice in every group."""
        return Allocation(tuple((key, choice) for key in spec.keys))

    @staticmethod
    def from_linears(spec: ModelSpec, chosen: Mapping[str, Choice]) -> Allocation:
        """The allocation in which every linear has the choice it is given.

        A group gets the choice that most of its weights have, the first of equals.

        Raises:
            SpecError: not every linear in a group, or something else, has a choice.
        """
        names = [linear.name for linear in spec.linears]
        _ = Allocation.of(names, chosen)
        groups: dict[str, Choice] = {}
        layers: dict[str, Choice] = {}
        for group in spec.groups:
            weights: Counter[Choice] = Counter()
            for linear in group.linears:
                weights[chosen[linear.name]] += linear.weights
            groups[group.key] = most = max(weights, key=weights.__getitem__)
            own = {x.name: chosen[x.name] for x in group.linears}
            layers |= {name: choice for name, choice in own.items() if choice != most}
        whole = Allocation.of(spec.keys, groups)
        return whole.but(layers)

    @staticmethod
    def from_json(
        spec: ModelSpec,
        data: Mapping[str, Mapping[str, Any]],
        layers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Allocation:
        """Read what `to_json` and `layers_json` wrote."""
        whole = Allocation.of(spec.keys, _read(data))
        chosen = {**whole.of_linears(spec), **_read(layers or {})}
        return Allocation.from_linears(spec, chosen) if layers else whole

    def of_linears(self, spec: ModelSpec) -> dict[str, Choice]:
        """Bits and method of every linear in a group, by full name.

        Raises:
            SpecError: an exception for a linear that is in no group.
        """
        chosen = dict(self.choices)
        found = {x.name: chosen[g.key] for g in spec.groups for x in g.linears}
        for name, choice in self.layers:
            if name not in found:
                raise SpecError(f"there is no linear {name!r} in a group to change")
            found[name] = choice
        return found

    def but(self, layers: Mapping[str, Choice]) -> Allocation:
        """The same choices of groups with these exceptions, by full name."""
        return Allocation(self.choices, tuple((x, layers[x]) for x in sorted(layers)))

    def over(self, spec: ModelSpec, other: ModelSpec) -> Allocation:
        """The same in terms of another grouping of the same linears."""
        return Allocation.from_linears(other, self.of_linears(spec))

    def __getitem__(self, key: str) -> Choice:
        if key not in self._places:
            raise UnknownNameError("group", key, self._places)
        return self.choices[self._places[key]][1]

    def __iter__(self) -> Iterator[tuple[str, Choice]]:
        return iter(self.choices)

    def replace(self, changes: Mapping[str, Choice]) -> Allocation:
        """The same allocation with some groups changed, its exceptions as they are.

        Raises:
            SpecError: a change to a group that is not there.
        """
        changed = list(self.choices)
        for key in sorted(changes):
            if key not in self._places:
                raise SpecError(f"there is no group {key!r} to change")
            changed[self._places[key]] = key, changes[key]
        return Allocation(tuple(changed), self.layers)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: at for at, (key, _) in enumerate(self.choices)}

    def part(self, components: Sequence[str]) -> Allocation:
        """The choices of some components' groups alone."""
        return Allocation(
            tuple((k, c) for k, c in self.choices if k.split(".")[0] in components)
        )

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain data: `{group: {"bits": int, "method": str | None}}`."""
        return _plain(self.choices)

    def layers_json(self) -> dict[str, dict[str, Any]]:
        """The exceptions as plain data: `{full name: {"bits": ..., "method": ...}}`."""
        return _plain(self.layers)

    @cached_property
    def digest(self) -> str:
        """Name of the allocation: equal allocations have equal digests."""
        if not self.layers:
            by_key = sorted(self.choices, key=itemgetter(0))
            return digest_of(canonical(*each) for each in by_key)
        return digest([self.to_json(), self.layers_json()])


def _plain(items: Iterable[tuple[str, Choice]]) -> dict[str, dict[str, Any]]:
    return {k: {"bits": c.bits, "method": c.method} for k, c in items}


def _read(data: Mapping[str, Mapping[str, Any]]) -> dict[str, Choice]:
    return {key: Choice(item["bits"], item["method"]) for key, item in data.items()}


def digest(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()[:16]


@lru_cache(maxsize=2**16)
def canonical(key: str, choice: Choice) -> str:
    """Canonical JSON of a group with its choice, as a part of an allocation's."""
    return _CANONICAL.encode(_plain([(key, choice)]))[1:-1]


def digest_of(parts: Iterable[str]) -> str:
    """Digest of an allocation without exceptions: what `canonical` gave, by key."""
    return hashlib.sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Size:
    """Stored bytes and the weights they stand for, in both scopes."""

    model_bytes: int
    parameters: int
    quantized_bytes: int
    weights: int

    def bpw(self, scope: Scope = "model") -> float:
        """Bits per weight in a scope."""
        if scope == "quantized":
            return 8 * self.quantized_bytes / self.weights
        return 8 * self.model_bytes / self.parameters

    def stored(self, scope: Scope) -> int:
        """Bytes in a scope."""
        return self.quantized_bytes if scope == "quantized" else self.model_bytes


def linear_bytes(
    linear: Linear, scheme: Scheme, bits: int, layout: str | None = None
) -> int:
    """Bytes of one linear's weight as a layout stores it, by default the target's.

    The zero-point of the per-tensor grid is not an integer, and takes 16 bits.
    """
    shape = (linear.out_features, linear.in_features)
    return _matrix_bytes(*shape, scheme, bits, layout)


@lru_cache(maxsize=4096)
def _matrix_bytes(
    rows: int, columns: int, scheme: Scheme, bits: int, layout: str | None
) -> int:
    """Of a matrix; a block's experts are hundreds of one shape."""
    if bits == FULL:
        return 2 * rows * columns
    zero_bits = FULL if scheme.group_size == "tensor" else bits
    matrix = Matrix(
        rows,
        columns,
        scheme.grids(rows, columns),
        bits,
        0 if scheme.symmetric else zero_bits,
    )
    return _layout(scheme, layout).matrix(matrix)


def summed_bytes(
    linears: Iterable[tuple[Linear, int]], scheme: Scheme, layout: str | None = None
) -> int:
    """Bytes of linears at so many bits each; thousands of experts are all alike."""
    alike = Counter((x.out_features, x.in_features, bits) for x, bits in linears)
    return sum(
        count * _matrix_bytes(rows, columns, scheme, bits, layout)
        for (rows, columns, bits), count in alike.items()
    )


def rest_bytes(spec: ModelSpec, scheme: Scheme, layout: str | None = None) -> int:
    """Bytes of everything outside the groups, as a layout stores it."""
    return _layout(scheme, layout).rest(spec.rest, spec.others, scheme.scales)


def _layout(scheme: Scheme, name: str | None) -> Layout:
    return LAYOUTS[TARGETS[scheme.target].layout if name is None else name]


def stored_size(
    spec: ModelSpec, scheme: Scheme, allocation: Allocation, layout: str | None = None
) -> Size:
    """Add up what the exported checkpoint of an allocation stores.

    `layout` says how (of `LAYOUTS`); None: as the scheme's target has it.
    """
    chosen = allocation.of_linears(spec)
    each = ((linear, chosen[linear.name].bits) for linear in spec.linears)
    quantized = summed_bytes(each, scheme, layout)
    whole = quantized + rest_bytes(spec, scheme, layout)
    return Size(whole, spec.parameters, quantized, spec.weights)


def bits_per_weight(
    spec: ModelSpec, scheme: Scheme, allocation: Allocation, scope: Scope = "model"
) -> float:
    """Stored bits per weight, overhead included."""
    return stored_size(spec, scheme, allocation).bpw(scope)


def nominal_bits(spec: ModelSpec, allocation: Allocation) -> float:
    """Bits of the codes alone over the weights in groups, as papers count them."""
    chosen = allocation.of_linears(spec)
    return sum(x.weights * chosen[x.name].bits for x in spec.linears) / spec.weights


@dataclass(frozen=True)
class Budget:
    """An upper bound: bits per weight, or bytes of the whole scope."""

    limit: float
    unit: Literal["bpw", "bytes"] = "bpw"
    scope: Scope = "model"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise BudgetError(
                f"budget {self.limit:g} is not a positive number of bits per weight, "
                "or a size such as 3.5GiB"
            )
        if self.scope not in SCOPES:
            raise BudgetError(
                f"budget scope {self.scope!r} is not one of {', '.join(SCOPES)}"
            )

    @staticmethod
    def parse(text: str, scope: Scope = "model") -> Budget:
        """Read "4.0" (bits per weight) or "3.5GiB" (a size).

        >>> Budget.parse("2kB")
        Budget(limit=2000.0, unit='bytes', scope='model')
        """
        form, own = r"\s*([-+]?[\w.]*?)\s*(b|[kmg]i?b)?\s*", text[:LONGEST]
        found = re.fullmatch(form, own, re.IGNORECASE) if own == text else None
        number, unit = found.groups() if found else ("", None)
        try:
            value = float(number)
        except ValueError:
            raise BudgetError(
                f"budget {text!r} is neither a number of bits per weight, such as 4.0, "
                "nor a size, such as 3.5GiB"
            ) from None
        if unit is None:
            return Budget(value, "bpw", scope)
        return Budget(value * UNITS[unit.lower()], "bytes", scope)

    def bpw(self, spec: ModelSpec) -> float:
        """The bound in bits per weight."""
        if self.unit == "bpw":
            return self.limit
        weights = spec.weights if self.scope == "quantized" else spec.parameters
        return 8 * self.limit / weights

    def bytes(self, spec: ModelSpec) -> float:
        """The bound in bytes."""
        if self.unit == "bytes":
            return self.limit
        weights = spec.weights if self.scope == "quantized" else spec.parameters
        return self.limit * weights / 8

    def fits(self, spec: ModelSpec, size: Size) -> bool:
        """Whether a size keeps the budget (to a millionth of a byte)."""
        return size.stored(self.scope) <= self.bytes(spec) + 1e-6
