"""The grid of quantized weights, and what one group can get of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.layouts import FULL as FULL
from allocator.core.targets import TARGETS, target_of

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTHS = TARGETS["none"].widths
GROUP_SIZES = TARGETS["none"].group_sizes
# the types scales may have, all of 16 bits
SCALE_TYPES = ("float16", "bfloat16")
ROUNDING = "uniform"


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
