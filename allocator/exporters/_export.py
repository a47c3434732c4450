"""From a recommendation to a folder that a runtime loads, reopened and compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allocator.core.allocation import Budget
    from allocator.exporters._checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Export:
    """What is to be written, and where it comes from.

    Attributes:
        plan: as `allocator.core.plan.plan_json` gives it; not to be changed.
        made: gives the checkpoint; asked at most once, and not for a plan alone.
        score: what a study measured of it: "score", "ci95", "metric", "task",
            "confirmed" (False: the bank's cells on the search set); None: not measured.
        limit: the budget that the study kept; None: there was none.
        command: the command that makes this, for the card.
        options: what the exporter itself is asked, such as {"scales": "fp16"}.
    """

    plan: Mapping[str, Any]
    made: Callable[[], Checkpoint]
    score: Mapping[str, Any] | None = None
    limit: Budget | None = None
    command: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Everything that belongs into a checkpoint."""
        return self.made()
