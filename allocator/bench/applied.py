"""The name of the cells that an allocation puts in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.allocation import FULL, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.allocation import Allocation, Choice
    from allocator.core.spec import Linear, ModelSpec


def applied_digest(
    spec: ModelSpec, allocation: Allocation, cell_sum: Callable[[Linear, Choice], str]
) -> str:
    """Digest of the cells of every linear.

    Args:
        spec: the model's groups.
        allocation: their choices.
        cell_sum: gives the checksum of a linear's cell; asked below 16 bits alone.
    """
    wanted = dict(allocation.choices)
    pairs = ((x, wanted[group.key]) for group in spec.groups for x in group.linears)
    return digest(
        [
            [x.name, str(FULL) if choice.bits == FULL else cell_sum(x, choice)]
            for x, choice in pairs
        ]
    )
