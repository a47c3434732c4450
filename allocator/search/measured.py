"""An allocation with its score of each evaluation sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.allocation import Allocation


@dataclass(frozen=True)
class Measured:
    """An allocation with its score of each evaluation sample.

    `details` are further figures of the same predictions, by name; `finalized` is the
    digest of its weights where those are not the bank's.
    """

    allocation: Allocation
    values: tuple[float, ...]
    applied: str
    details: Mapping[str, float] = field(default_factory=dict)
    finalized: str | None = None

    @property
    def mean(self) -> float:
        """Score on the evaluation set."""
        return sum(self.values) / len(self.values)
