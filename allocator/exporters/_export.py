"""What is to be exported: a plan, what was measured of it, and how to get its weights.

`allocator.exporters._driver` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from allocator.core.allocation import Budget
    from allocator.exporters._checkpoint import Checkpoint

# anonymous memory that an export may take: so much, and a share of the checkpoint
MEMORY, SHARE = 2 * 10**9, 0.35
# bytes of a weight in a checkpoint, and of one that is computed with
STORED, COMPUTED = 2, 4


@dataclass(frozen=True, eq=False)
class Export:
    """What is to be written, and where it comes from.

    Attributes:
        plan: as `allocator.core.plan.plan_json` gives it; not to be changed.
        made: gives the checkpoint; asked at most once, and not for a plan alone.
        score: what a study measured of it: "score", "ci95", "metric", "task", "full"
            (that of full precision), "confirmed" (False: the bank's cells on the search
            set); None: not measured.
        limit: the budget that the study kept; None: there was none.
        command: the command that makes this, for the card.
        options: what the exporter itself is asked, such as {"scales": "fp16"}.
        weights: folder of the plan's finalized weights; None: the bank's cells.
    """

    plan: Mapping[str, Any]
    made: Callable[[], Checkpoint]
    score: Mapping[str, Any] | None = None
    limit: Budget | None = None
    command: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Everything that belongs into a checkpoint."""
        return self.made()

    @property
    def target(self) -> str:
        """What the search was for (`allocator.core.targets.TARGETS`)."""
        return str(self.plan["scheme"].get("target", "none"))

    @property
    def large(self) -> bool:
        """Whether the decoded model takes more memory than an export may.

        Its logits are not compared: who reopens it leaves in the files what lies there.
        """
        parameters = self.checkpoint.spec.parameters
        return COMPUTED * parameters > MEMORY + SHARE * STORED * parameters
