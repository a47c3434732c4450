"""An allocation with its score of each evaluation sample, or why it has none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from allocator.core.finite import is_number
from allocator.study.entry import not_finite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Allocation

# of what a study keeps: why there are no values
FAILED = "failed"


@dataclass(frozen=True)
class Measured:
    """An allocation with its score of each evaluation sample.

    `details` are further figures of the same predictions, by name; `finalized` is the
    digest of its weights where those are not the bank's, `tuned` says that they are
    tuned as well. `failed` says why it has no score: something of it was no finite
    number. `seen` are the places of the samples that it was scored on, where those are
    not all; its values are of these, unless they were completed since.
    """

    allocation: Allocation
    values: tuple[float, ...]
    applied: str
    details: Mapping[str, float] = field(default_factory=dict)
    finalized: str | None = None
    tuned: bool = False
    failed: str | None = None
    seen: tuple[int, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it was scored on all samples."""
        return self.failed is None and not self.seen

    @property
    def samples(self) -> int:
        """How many samples it was scored on."""
        return len(self.seen) or len(self.values)

    def with_values(self, values: Sequence[float]) -> Measured:
        """The same with a value for every sample."""
        return replace(self, values=tuple(values))

    @property
    def mean(self) -> float:
        """Score on the evaluation set; -inf, below all others, where it has none."""
        if self.failed is not None:
            return -math.inf
        return sum(self.values) / len(self.values)


def recalled(
    allocation: Allocation, kept: Mapping[str, Any], seen: tuple[int, ...] = ()
) -> Measured:
    """An evaluation as a study keeps it: values, details and the digest of the cells.

    `seen` are the places of its samples, where those are not all. Values of a study of
    before that are no finite numbers are none.
    """
    values, failed = tuple(kept["values"]), kept.get(FAILED)
    if failed is None:
        mean = sum(values) / len(values)
        failed = not_finite(mean, values)
    details = {name: v for name, v in kept["details"].items() if is_number(v)}
    if failed is not None:
        values = seen = ()
    found = Measured(allocation, values, kept["applied"], details, failed=failed)
    return replace(found, seen=seen)
