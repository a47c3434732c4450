"""Simulations in cases: their command, their table, and what intervals came to."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


def command(
    told: str | None,
    runs: int,
    out: Path,
    rows: Callable[[int, bool], Iterator[Mapping[str, Any]]],
) -> None:
    """Run all cases, and write the table after each.

    Args:
        told: what `--help` says.
        runs: of a case, unless `--runs` says so.
        out: the table, left alone by `--quick`.
        rows: given the runs and whether to be quick, a row for each case.
    """
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=runs, help="of a case, at most")
    given = parser.parse_args()
    started, table = time.monotonic(), []
    for row in rows(given.runs, given.quick):
        table.append(row)
        print(json.dumps(row), flush=True)
        if not given.quick:
            out.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{time.monotonic() - started:.0f} s")


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
