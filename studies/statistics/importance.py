"""Do the intervals of importance hold the true shares, whatever a search looked at?

    python -m studies.statistics.importance [--quick] [--jobs 2] [--out FILE.json]

Plants truths on a space like that of tiny-blip2, simulates searches on them, imputes
and analyses as the product does, and counts how often an interval holds the true share:
what the same measures find in the true scores of everything that the searches of one
truth looked at well. The same rows with their imputed scores taken for measured ones,
each by itself, show what the accounting is for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from studies.statistics._truths import (
    COMPONENTS,
    NAMES,
    Truth,
    columns,
    search,
)
from surrogate.importance import Analysis, analyse
from surrogate.imputation import impute
from surrogate.measures import Cost, Effort

# deviations of log damage between score and look; of a score, in points
APART, NOISE = (0.2, 0.4), 0.25
TRUTHS, SEARCHES = 10, 20
# one search in so many is also analysed as if all had been measured, row by row
PLAINLY = 5
WAYS = ("accounted for", "taken for measured")
# as many of these cost what the product spends on a few: fewer trees and draws, whose
# own noise only adds to errors and intervals
LIGHT = Effort(30, beside=False, whole=Cost(trees=40, repeats=5, shap_rows=60))
# the truth needs no interval
ALONE = Effort(2, beside=False, whole=Cost(trees=40, repeats=3, shap_rows=100))
BINS = (0, 2, 5, 15, 40, 100)
LEVELS = {"component": [*COMPONENTS, *COMPONENTS], "group": [*NAMES, *NAMES]}
COLUMNS = [*NAMES, *(f"{name} method" for name in NAMES)]


def one(case: tuple[int, int]) -> dict[str, Any]:
    """All searches of one truth: shares, intervals, and the true shares."""
    number, searches = case
    apart = APART[number % len(APART)]
    rng = np.random.default_rng([number, 15])
    truth = Truth.drawn(rng, apart, NOISE)
    found = [search(truth, rng) for _ in range(searches)]
    everything = np.concatenate([each.table for each in found])
    true = analyse(
        columns(everything),
        truth.score(everything),
        COLUMNS,
        levels=LEVELS,
        effort=ALONE,
    )
    told: dict[str, Any] = {"apart": apart, "true": shares(true), WAYS[0]: []}
    told[WAYS[1]] = []
    for at, each in enumerate(found):
        kept, imputation = impute(each.scores, each.looks)
        rows, scores = each.columns[kept], imputation.expected
        more = {"clusters": each.proposals[kept], "imputation": imputation}
        told[WAYS[0]].append(of_search(rows, scores, **more))
        if at % PLAINLY == 0:
            told[WAYS[1]].append(of_search(rows, scores))
    return told


def of_search(rows: Any, scores: Any, **more: Any) -> dict[str, Any]:
    """Shares and intervals of one search, and whether they would be shown."""
    found = analyse(rows, scores, COLUMNS, levels=LEVELS, effort=LIGHT, **more)
    return {**shares(found), "reliable": found.reliable}


def shares(found: Analysis) -> dict[str, Any]:
    """Consensus and interval at both levels."""
    return {
        level: {
            "consensus": own.consensus.round(3).tolist(),
            "ci95": own.ci95.round(3).tolist(),
        }
        for level, own in found.levels.items()
    }


def table(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage by way, by level, and by true share."""
    found: dict[str, Any] = {}
    for way in WAYS:
        for level in LEVELS:
            true, own, low, high, apart, shown = _gathered(told, way, level)
            held = (low <= true) & (true <= high)
            parts = {
                f"look and score apart by {each:g}": apart == each for each in APART
            }
            parts["would be shown"] = shown > 0
            for start, end in itertools.pairwise(BINS):
                parts[f"true share {start} to {end} %"] = (start <= true) & (true < end)
            found.setdefault(way, {})[level] = {
                "intervals": len(held),
                "coverage": _rounded(held),
                **{name: _rounded(held[part]) for name, part in parts.items()},
                "mean width": _rounded(high - low),
                "mean error": _rounded(np.abs(own - true)),
            }
    return found


def _gathered(told: list[dict[str, Any]], way: str, level: str) -> Any:
    rows = [
        (true, share, *ends, truth["apart"], each["reliable"])
        for truth in told
        for each in truth[way]
        for true, share, ends in zip(
            truth["true"][level]["consensus"],
            each[level]["consensus"],
            each[level]["ci95"],
            strict=True,
        )
    ]
    return np.array(rows, dtype=np.float64).T


def _rounded(values: Any) -> float | None:
    return round(float(np.mean(values)), 3) if len(values) else None


def main() -> None:
    """Simulate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    truths, searches = (2, 8) if asked.quick else (TRUTHS, SEARCHES)
    started = time.monotonic()
    told = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for each in pool.map(one, [(number, searches) for number in range(truths)]):
            told.append(each)
            print(f"{len(told)} of {truths} truths", flush=True)
    found = {"truths": truths, "searches": truths * searches, **table(told)}
    print(json.dumps(found, indent=1), f"{time.monotonic() - started:.0f} s")
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
