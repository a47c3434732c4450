"""Published tables as cases of the search benchmark: no model, every score a read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.core.plugins import load
from allocator.space.table import TableSpace, read_table
from allocator.tables.oracle import Oracle, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISHED = Path(__file__).parents[1] / "published"


@dataclass(frozen=True)
class Case:
    """A score of a table, searched under budgets in bits per weight."""

    name: str
    path: Path
    score: str
    budgets: tuple[float, ...]


CASES = (
    Case(
        "captioning CIDEr",
        PUBLISHED / "blip2_coco_awq.csv",
        "CIDEr",
        (3.5, 4, 4.5, 5, 6, 8),
    ),
    Case("image recall", PUBLISHED / "blip2_flickr_awq.csv", "img_r1", (3, 4, 6)),
    Case("text recall", PUBLISHED / "blip2_flickr_awq.csv", "txt_r1", (3, 4, 6)),
)


def runs(case: Case) -> Iterator[tuple[float, TableSpace]]:
    """Every budget of a case with its space."""
    table = read_table(case.path, case.score, "bpw")
    for budget in case.budgets:
        yield budget, TableSpace(table, budget)


def regrets(
    space: TableSpace, strategy: str, seed: int, evaluations: int
) -> tuple[list[float], float, float]:
    """One search, judged by the whole table afterwards.

    Returns:
        Regret after each evaluation: the best score among rows that fit less the best
        read so far; seconds in all, and seconds of the strategy.
    """
    started = time.perf_counter()
    oracle = Oracle(space, evaluations)
    sampler = read_rows(load("allocator.strategies", strategy)(space, seed), oracle)
    total = time.perf_counter() - started
    best = max(float(space.row(a).score) for a in space.rows)
    found, left = [], float("inf")
    for _, score in oracle.known.measured:
        left = min(left, best - score)
        found.append(left)
    return found, total, sampler
