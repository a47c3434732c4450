"""An allocation with its score of each evaluation sample, or why it has none."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.finite import is_number
from allocator.study.entry import not_finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.allocation import Allocation

# of what a study keeps: why there are no values
FAILED = "failed"


@dataclass(frozen=True)
class Measured:
    """An allocation with its score of each evaluation sample.

    `details` are further figures of the same predictions, by name; `finalized` is the
    digest of its weights where those are not the bank's, `tuned` says that they are
    tuned as well. `failed` says why it has no score: something of it was no finite
    number.
    """

    allocation: Allocation
    values: tuple[float, ...]
    applied: str
    details: Mapping[str, float] = field(default_factory=dict)
    finalized: str | None = None
    tuned: bool = False
    failed: str | None = None

    @property
    def mean(self) -> float:
        """Score on the evaluation set; -inf, below all others, where it has none."""
        if self.failed is not None:
            return -math.inf
        return sum(self.values) / len(self.values)


def recalled(allocation: Allocation, kept: Mapping[str, Any]) -> Measured:
    """An evaluation as a study keeps it: values, details and the digest of the cells.

    Values of a study of before that are no finite numbers are none.
    """
    values, failed = tuple(kept["values"]), kept.get(FAILED)
    if failed is None:
        mean = sum(values) / len(values)
        failed = not_finite(mean, values)
    details = {name: v for name, v in kept["details"].items() if is_number(v)}
    if failed is not None:
        values = ()
    return Measured(allocation, values, kept["applied"], details, failed=failed)
