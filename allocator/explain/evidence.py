"""Scored allocations as the columns that models are fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation
    from surrogate.imputation import Imputation

    Rows = NDArray[np.intp]
    Array = NDArray[np.float64]

LEVELS = ("component", "block_group", "layer_type", "group")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Scored allocations as numbers.

    `bits` is [n, k] for the k groups `keys`, `scores` [n] in the metric's unit, better
    when lower if not `higher_is_better`; `weights` are the groups' sizes in any unit,
    None where nobody knows. `methods` [n, m] are codes of the methods of the m groups
    `by_method`, those that did not always get the same. `clusters` [n] are equal for
    rows that descend from one, None where each is for itself; `imputation` says which
    scores are suggested by looks, None where all were measured. `digests` [n] are those
    of the allocations, none where rows are not read as such.
    """

    keys: tuple[str, ...]
    bits: Array
    scores: Array
    weights: tuple[float, ...] | None = None
    seed: int = 0
    by_method: tuple[str, ...] = ()
    methods: Array | None = None
    higher_is_better: bool = True
    clusters: Rows | None = None
    imputation: Imputation | None = None
    digests: tuple[str, ...] = ()

    @staticmethod
    def of(  # noqa: PLR0913, scored allocations and all that is known of them
        keys: Sequence[str],
        scored: Sequence[tuple[Allocation, float]],
        weights: Sequence[float] | None = None,
        seed: int = 0,
        higher_is_better: bool = True,
        *,
        clusters: Rows | None = None,
        imputation: Imputation | None = None,
    ) -> Evidence:
        """Evidence of scored allocations."""
        from surrogate.features import bit_matrix, method_matrix

        allocations = [allocation for allocation, _ in scored]
        by_method, methods = method_matrix(keys, allocations)
        return Evidence(
            tuple(keys),
            bit_matrix(keys, allocations),
            np.array([score for _, score in scored], dtype=np.float64),
            None if weights is None else tuple(weights),
            seed,
            by_method,
            methods,
            higher_is_better,
            clusters,
            imputation,
            tuple(allocation.digest for allocation in allocations),
        )

    @property
    def table(self) -> Array:
        """What models are fitted to, [n, k + m]: bits, and methods where they vary."""
        return (
            self.bits if self.methods is None else np.hstack([self.bits, self.methods])
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `table`."""
        return (*self.keys, *(f"{key} method" for key in self.by_method))

    def per_column(self, owners: Sequence[str]) -> list[str]:
        """Owners of the groups as owners of the columns."""
        own = dict(zip(self.keys, owners, strict=True))
        return [*owners, *(own[key] for key in self.by_method)]

    @property
    def levels(self) -> dict[str, list[str]]:
        """For each level the owner of every group; groups alone where no name tells.

        Names of three parts, `component.part.type` or `vit_front_attn` or with `_bits`
        behind, tell the component, the block group and the layer type.
        """
        names = [parts_of(key) for key in self.keys]
        levels = {"group": list(self.keys)}
        if all(len(name) == 3 for name in names):
            levels = {
                "component": [name[0] for name in names],
                "block_group": [f"{name[0]}.{name[1]}" for name in names],
                "layer_type": [f"{name[0]}.{name[2]}" for name in names],
                **levels,
            }
        return levels

    @property
    def owners(self) -> list[str]:
        """The component of every group, or the group itself where none is named."""
        levels = self.levels
        return levels.get("component", levels["group"])


def parts_of(key: str) -> list[str]:
    """The parts a group's name tells: component, part and layer type, or fewer.

    >>> parts_of("vit_front_attn_bits")
    ['vit', 'front', 'attn']
    """
    return key.split(".") if "." in key else key.removesuffix("_bits").split("_")
