"""How often intervals hold the truth, how often they lie above 0, how wide they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of all runs, in percent; `plain` is what knows of no choice."""
    told: dict[str, Any] = {}
    for kind in found[0]:
        rows = [each[kind] for each in found]
        told[kind] = _shares([(interval, true) for interval, true, _ in rows])
        if kind != "retained":
            plain = _shares([(own, true) for _, true, own in rows])
            told[kind]["plain"] = plain
    return told


def _shares(rows: Sequence[tuple[Any, float]]) -> dict[str, float]:
    # equal but for rounding is covered
    ends = np.array([(i.low - 1e-9, i.high + 1e-9, i.mean) for i, _ in rows])
    true = np.array([true for _, true in rows])
    covered = (ends[:, 0] <= true) & (true <= ends[:, 1])
    return {
        "covered": round(100 * float(covered.mean()), 2),
        "above": round(100 * float((ends[:, 0] > 0).mean()), 2),
        "width": round(float((ends[:, 1] - ends[:, 0]).mean()), 4),
        "optimism": round(float((ends[:, 2] - true).mean()), 4),
    }
