"""All cells that were measured, and what their differences are worth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from studies.rivals.case import BUDGETS, MODELS
from studies.rivals.compare import OURS
from studies.rivals.drawings import DRAWINGS, PICTURES, QUESTIONS
from studies.rivals.intervals import (
    Difference,
    by_picture,
    differences,
    drawn_means,
    single,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from studies.rivals.intervals import Floats

SYSTEMS = (
    *(OURS, "modelopt gradient", "modelopt kl", "autoscheme", "kl knapsack"),
    *("fisher knapsack", "error knapsack", "even mix", "language end"),
)


@dataclass(frozen=True)
class Cells:
    """All cells that were measured, by every system that is in each.

    Attributes:
        cells: model and budget of each.
        systems: ours first.
        values: [cells, systems, sets, pictures] in percent; the first set is the
            evaluation set, the others are fresh.
        kept: what is known of each cell beside its values.
    """

    cells: tuple[tuple[str, float], ...]
    systems: tuple[str, ...]
    values: Floats
    kept: tuple[dict[str, Any], ...]

    @staticmethod
    def read(folder: Path) -> Cells:
        """Cells in a folder; systems that are not in all of them are left out."""
        wanted = [(model, bpw) for model in MODELS for bpw in BUDGETS]
        cells = [c for c in wanted if (folder / f"{c[0]}-{c[1]}.json").exists()]
        loaded = [dict(np.load(folder / f"{m}-{b}.npz")) for m, b in cells]
        systems = [s for s in SYSTEMS if all(s in own for own in loaded)]
        table = np.array([[own[s] for s in systems] for own in loaded], np.float64)
        sets = table.reshape(*table.shape[:2], 1 + len(DRAWINGS), -1)
        assert sets.shape[3] == PICTURES * QUESTIONS
        return Cells(
            tuple(cells),
            tuple(systems),
            by_picture(sets, QUESTIONS),
            tuple(json.loads((folder / f"{m}-{b}.json").read_text()) for m, b in cells),
        )

    @cached_property
    def fresh(self) -> Floats:
        """Scores on the fresh drawings together: [cells, systems]."""
        scores: Floats = self.values[:, :, 1:].mean((2, 3))
        return scores

    @cached_property
    def drawn(self) -> Floats:
        """The same on draws of the pictures: [draws, cells, systems]."""
        rows = self.values[:, :, 1:].reshape(self.fresh.size, -1)
        return drawn_means(rows).reshape(-1, *self.fresh.shape)

    def against(self, rival: str) -> list[Difference]:
        """Ours less a rival in each cell, adjusted over the cells."""
        at = self.systems.index(rival)
        return differences(
            self.fresh[:, 0] - self.fresh[:, at],
            self.drawn[:, :, 0] - self.drawn[:, :, at],
        )

    def mean_against(self, rival: str, cells: Sequence[int]) -> Difference:
        """Ours less a rival, the mean over some cells."""
        at, own = self.systems.index(rival), list(cells)
        drawn = self.drawn[:, own]
        return single(
            float((self.fresh[own, 0] - self.fresh[own, at]).mean()),
            (drawn[:, :, 0] - drawn[:, :, at]).mean(1),
        )

    def leads(self, scores: Floats) -> tuple[float, str]:
        """How far any rival is ahead of ours anywhere, and where.

        Args:
            scores: [cells, systems].
        """
        ahead = scores[:, 1:] - scores[:, :1]
        cell, rival = np.unravel_index(ahead.argmax(), ahead.shape)
        model, bpw = self.cells[cell]
        return float(ahead.max()), f"{self.systems[rival + 1]}, {model} at {bpw}"
