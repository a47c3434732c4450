"""A task that a model itself answers: VQAv2's questions, whose answers do not count.

Or which count after all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.metrics.agreement import PLUGIN as AGREEMENT
from evals.metrics.agreement import UNIT
from evals.tasks.vqav2 import PLUGIN as VQAV2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from allocator.core.ports import Sample, Score, Selection, Split

SIZES: dict[Any, int] = {"calibration": 8, "search": 32, "evaluation": 40}


@dataclass(frozen=True)
class Itself:
    """So many samples of each set; their answers are there, and count for others."""

    sizes: Any
    max_new_tokens: int = 10
    name: str = "vqav2"
    metric: str = UNIT
    version: int = 1
    needs: Any = "reply"
    subsets: tuple[str, ...] = ()
    examples: tuple[Sample, ...] = VQAV2.examples
    own_references: bool = True
    summary: Any = None

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """The first of VQAv2's."""
        return VQAV2.samples(data, split, selection)[: self.sizes[split]]

    def score(self, replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """By agreement, or as VQAv2 does."""
        by = AGREEMENT if self.own_references else VQAV2
        return by.score(replies, samples)


def ask_itself(
    patch: pytest.MonkeyPatch, *, answers: bool = False, **sizes: int
) -> Itself:
    """Let every request be for such a task."""
    task = Itself({**SIZES, **sizes}, own_references=not answers)
    patch.setattr("allocator.bench.prepare.asked_task", lambda *_: task)
    return task
