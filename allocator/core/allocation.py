"""Bits and method for every group, and the one place that adds up bits."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from allocator.core.errors import BudgetError, SpecError, UnknownNameError
from allocator.core.layouts import FULL as FULL
from allocator.core.layouts import LAYOUTS, Layout, Matrix
from allocator.core.targets import TARGETS, target_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from allocator.core.spec import Linear, ModelSpec

WIDTHS = TARGETS["none"].widths
GROUP_SIZES = TARGETS["none"].group_sizes
SCOPES = ("model", "quantized")
# the types scales may have, all of 16 bits
SCALE_TYPES = ("float16", "bfloat16")
ROUNDING = "uniform"
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}

Scope = Literal["model", "quantized"]


@dataclass(frozen=True)
class Scheme:
    """The grid apart from its width.

    `group_size` is the number of neighbouring inputs of a row that share a scale, or
    "channel" (a row) or "tensor" (the matrix); `scales` is the type of the scales. A
    linear whose rows it does not divide has a group size of its own: no runtime reads
    groups that are cut off. `target` names what the model is quantized for, of
    `TARGETS`.
    """

    group_size: int | str = 128
    symmetric: bool = False
    scales: str = "float16"
    target: str = "none"

    def __post_init__(self) -> None:
        target_of(self.target).check_grid(self.group_size, symmetric=self.symmetric)
        if self.scales not in SCALE_TYPES:
            allowed = ", ".join(SCALE_TYPES)
            raise SpecError(f"scales of type {self.scales!r} are not one of {allowed}")

    def check(self, methods: Sequence[str]) -> None:
        """Refuse methods that have nothing to choose under one scale a matrix.

        Raises:
            SpecError: there are any beside rounding, as published tables have it.
        """
        others = [name for name in methods if name != ROUNDING]
        if self.group_size == "tensor" and others:
            raise SpecError(
                f"group size 'tensor' goes with method {ROUNDING!r} alone, not with "
                f"{', '.join(others)}: give --methods {ROUNDING}, or another group size"
            )

    def group_size_of(self, in_features: int) -> int | str:
        """Group size of a linear with `in_features` inputs.

        See `Target.group_size_of`.

        >>> [Scheme(128).group_size_of(n) for n in (4096, 960, 3420, 96)]
        [128, 64, 'channel', 96]
        >>> Scheme(128, target="mlx").group_size_of(96)
        32
        """
        return TARGETS[self.target].group_size_of(self.group_size, in_features)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as plans and recommendations have it."""
        keys = ("group_size", "symmetric", "target")
        return {key: getattr(self, key) for key in keys}

    @property
    def regrouped(self) -> list[int]:
        """Lengths of rows that have other groups, and so other cells, by the target."""
        return TARGETS[self.target].regroups(self.group_size)

    def columns(self, in_features: int) -> int:
        """Inputs that share one scale in a linear with `in_features` inputs."""
        size = self.group_size_of(in_features)
        return in_features if isinstance(size, str) else size

    def grids(self, out_features: int, in_features: int) -> int:
        """Number of scales a matrix has.

        >>> Scheme(64).grids(10, 256)
        40
        """
        if self.group_size == "tensor":
            return 1
        return out_features * (in_features // self.columns(in_features))


@dataclass(frozen=True)
class Choice:
    """Bits and method of one group; the method is None where bits are 16."""

    bits: int
    method: str | None = None

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS or not isinstance(self.bits, int):
            allowed = ", ".join(map(str, WIDTHS))
            raise SpecError(f"width {self.bits} is not one of {allowed}")
        if (self.bits == FULL) != (self.method is None):
            raise SpecError(
                f"{self.bits} bits with method {self.method!r}: "
                "16 bits take no method, every other width needs one"
            )

    @staticmethod
    def parse(text: str) -> Choice:
        """Read what `str` wrote.

        >>> Choice.parse("4/gptq")
        Choice(bits=4, method='gptq')
        """
        bits, _, method = text.partition("/")
        return Choice(int(bits), method or None)

    def __str__(self) -> str:
        return f"{self.bits}" if self.method is None else f"{self.bits}/{self.method}"


@dataclass(frozen=True)
class Allocation:
    """A choice for every group, in the order of the model's groups."""

    choices: tuple[tuple[str, Choice], ...]

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
    def from_json(spec: ModelSpec, data: Mapping[str, Mapping[str, Any]]) -> Allocation:
        """Read what `to_json` wrote."""
        return Allocation.of(
            spec.keys,
            {key: Choice(item["bits"], item["method"]) for key, item in data.items()},
        )

    def __getitem__(self, key: str) -> Choice:
        chosen = dict(self.choices)
        if key not in chosen:
            raise UnknownNameError("group", key, chosen)
        return chosen[key]

    def __iter__(self) -> Iterator[tuple[str, Choice]]:
        return iter(self.choices)

    def replace(self, changes: Mapping[str, Choice]) -> Allocation:
        """The same allocation with some groups changed.

        Raises:
            SpecError: a change to a group that is not there.
        """
        unknown = sorted(set(changes) - {key for key, _ in self.choices})
        if unknown:
            raise SpecError(f"there is no group {unknown[0]!r} to change")
        return Allocation(tuple((key, changes.get(key, c)) for key, c in self.choices))

    def part(self, components: Sequence[str]) -> Allocation:
        """The choices of some components alone."""
        return Allocation(
            tuple((k, c) for k, c in self.choices if k.split(".")[0] in components)
        )

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain data: `{group: {"bits": int, "method": str | None}}`."""
        return {k: {"bits": c.bits, "method": c.method} for k, c in self.choices}

    @cached_property
    def digest(self) -> str:
        """Name of the allocation: equal allocations have equal digests."""
        return digest(self.to_json())


def digest(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    if bits == FULL:
        return 2 * linear.weights
    zero_bits = FULL if scheme.group_size == "tensor" else bits
    matrix = Matrix(
        linear.out_features,
        linear.in_features,
        scheme.grids(linear.out_features, linear.in_features),
        bits,
        0 if scheme.symmetric else zero_bits,
    )
    return _layout(scheme, layout).matrix(matrix)


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
    chosen = dict(allocation.choices)
    quantized = sum(
        linear_bytes(linear, scheme, chosen[group.key].bits, layout)
        for group in spec.groups
        for linear in group.linears
    )
    whole = quantized + rest_bytes(spec, scheme, layout)
    return Size(whole, spec.parameters, quantized, spec.weights)


def bits_per_weight(
    spec: ModelSpec, scheme: Scheme, allocation: Allocation, scope: Scope = "model"
) -> float:
    """Stored bits per weight, overhead included."""
    return stored_size(spec, scheme, allocation).bpw(scope)


def nominal_bits(spec: ModelSpec, allocation: Allocation) -> float:
    """Bits of the codes alone over the weights in groups, as papers count them."""
    chosen = dict(allocation.choices)
    return sum(g.weights * chosen[g.key].bits for g in spec.groups) / spec.weights


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
        found = re.fullmatch(
            r"\s*([-+]?[\w.]*?)\s*(b|[kmg]i?b)?\s*", text, re.IGNORECASE
        )
        number, unit = found.groups() if found else (text, None)
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
