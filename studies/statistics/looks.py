"""How soon a useless look is dropped, and how often a useful one, in 400 searches.

    python -m studies.statistics.looks [--quick] [--processes N]

Runs the product's own races, controls and rule on drawn candidates: 48 a proposal,
whose divergence on 128 samples has a given rank correlation with their true score, over
candidates drawn by chance, and less on 32. What the same 128 samples contribute to the
score shares some of the divergence's noise. Seven baselines agree with the look,
whatever it says of proposals. Writes the table to `studies/results/` and draws the
trade-off beside this file.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allocator.study.looks import (
    DIVERGENCE,
    LADDER,
    LEAST_CORRELATION,
    SURE,
)
from studies.statistics._drawn_searches import Trial, World
from surrogate.importance import spearman

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "statistics_looks.json"
# searches of what the rule is for, of what stands beside it, and in a hurry
SEARCHES, BESIDE, QUICK = 400, 100, 30
PROPOSALS, SOON = 20, 12
TRUTHS = (0.0, 0.3, 0.5, 0.65, 0.8)
SURES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975)
LADDERS = {1000: LADDER, 400: LADDER[:2]}
# what candidates gain from one proposal to the next where a search gets on, in spreads
GAIN = 0.05


@dataclass
class Course:
    """One search: when the rule would have dropped the look, by how sure it has to be.

    `before` is when the rule of before, Spearman's correlation of at least 0.5 over all
    that was measured, baselines among it, would have; 0 is never.
    """

    dropped: dict[float, int]
    before: int
    said: tuple[float, float, float] | None
    best: float


def course(
    world: World, ladder: Any, schedule: tuple[int, ...] | None = None
) -> Course:
    """Search once."""
    trial = Trial(world, ladder, schedule)
    dropped, before, best = dict.fromkeys(SURES, 0), 0, -9.0
    for made in range(1, PROPOSALS + 1):
        best = max(best, trial.step(made - 1))
        for sure in SURES:
            if not dropped[sure] and trial.rungs.surely_low(sure):
                dropped[sure] = made
        # seven baselines and one proposal were enough of them
        if not before and _of_before(trial) < LEAST_CORRELATION:
            before = made
    found = trial.rungs.widest()
    said = None if found.ci95 is None else (found.spearman or 0.0, *found.ci95)
    return Course(dropped, before, said, best)


def _of_before(trial: Trial) -> float:
    looks = [-trial.rungs.seen(a)[DIVERGENCE, 128] for a, _ in trial.measured]
    return spearman(np.array(looks), np.array([score for _, score in trial.measured]))


def shown(world: World) -> float:
    """The correlation to be found: with the score on samples the look did not see."""
    drawn = world.candidates(0.0, 20_000)
    whole = 256 if world.total > 512 else world.total
    others = [
        (whole * d.scores[whole] - 128 * d.scores[128]) / (whole - 128) for d in drawn
    ]
    return spearman(np.array([-d.looks[128] for d in drawn]), np.array(others))


def row(
    truth: float,
    total: int,
    searches: int,
    gain: float = 0.0,
    schedule: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """What happened in many searches of one kind."""
    seed = [17, int(100 * truth), total, int(100 * gain), *(schedule or ())]
    rng = np.random.default_rng(seed)
    worlds = [World(truth, total, rng, gain) for _ in range(searches)]
    found = [course(world, LADDERS[total], schedule) for world in worlds]
    target = shown(World(truth, total, np.random.default_rng(1)))
    ends = [each.said for each in found if each.said is not None]
    return {
        "rank correlation": truth,
        "search samples": total,
        "gain": gain,
        "controls": "default" if schedule is None else len(schedule),
        "searches": searches,
        "to be found": round(target, 3),
        "found": round(float(np.mean([e[0] for e in ends])), 3) if ends else None,
        "ci95 holds it": (
            round(float(np.mean([e[1] <= target <= e[2] for e in ends])), 3)
            if ends
            else None
        ),
        "dropped within 12": {
            sure: round(float(np.mean([0 < f.dropped[sure] <= SOON for f in found])), 4)
            for sure in SURES
        },
        "kept after 20": {
            sure: round(float(np.mean([not f.dropped[sure] for f in found])), 4)
            for sure in SURES
        },
        "before: dropped within 12": float(
            np.mean([0 < f.before <= SOON for f in found])
        ),
        "before: kept after 20": float(np.mean([not f.before for f in found])),
        "best found, in spreads": round(float(np.mean([f.best for f in found])), 3),
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw what is kept of a useful look against what is dropped of a useless one."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for axis, total in zip(axes, LADDERS, strict=True):
        for controls in dict.fromkeys(r["controls"] for r in rows):
            own = {
                r["rank correlation"]: r
                for r in rows
                if (r["controls"], r["search samples"], r["gain"])
                == (controls, total, 0.0)
            }
            if not {0.0, 0.8} <= own.keys():
                continue
            dropped = [own[0.0]["dropped within 12"][sure] for sure in SURES]
            kept = [own[0.8]["kept after 20"][sure] for sure in SURES]
            axis.plot(dropped, kept, marker="o", markersize=3, label=f"{controls}")
        axis.axvline(0.9, color="#bbbbbb", linewidth=0.8)
        axis.axhline(0.95, color="#bbbbbb", linewidth=0.8)
        axis.set(title=f"{total} search samples", xlabel="useless: dropped within 12")
    axes[0].set_ylabel("0.8: kept after 20")
    axes[0].legend(title="controls", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def kinds(*, quick: bool) -> list[tuple[Any, ...]]:
    """Arguments of `row` for all there is to simulate."""
    main, beside = (QUICK, QUICK) if quick else (SEARCHES, BESIDE)
    found: list[tuple[Any, ...]] = [
        (truth, total, main if truth in (0.0, 0.8) else beside)
        for total in LADDERS
        for truth in TRUTHS
    ]
    ends = [(truth, total, beside) for total in LADDERS for truth in (0.0, 0.8)]
    found += [(*end, GAIN) for end in ends]
    others = () if quick else ((4, 8), (3, 6, 9), (1, 3, 5, 7, 9, 11))
    return found + [(*end, 0.0, schedule) for schedule in others for end in ends]


def line(found: dict[str, Any]) -> str:
    """A row, to read."""
    return (
        f"{found['search samples']} samples, {found['rank correlation']:.2f}, "
        f"gain {found['gain']}, controls {found['controls']}: "
        f"dropped {found['dropped within 12'][SURE]:.3f}, "
        f"kept {found['kept after 20'][SURE]:.3f} "
        f"(before {found['before: dropped within 12']:.3f}, "
        f"{found['before: kept after 20']:.3f}); found {found['found']} of "
        f"{found['to be found']}, in ci95 {found['ci95 holds it']}; "
        f"best {found['best found, in spreads']}"
    )


def main() -> None:
    """Search, print a line for each kind of search, write the table and the curve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(asked.processes) as pool:
        for found in pool.map(row, *_columns(kinds(quick=asked.quick))):
            rows.append(found)
            print(line(found), flush=True)
    if not asked.quick:
        RESULTS.write_text(json.dumps({"sure": SURE, "rows": rows}, indent=1) + "\n")
        draw(rows, HERE / "looks.png")


def _columns(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    usual = (0.0, 0.0, 0, 0.0, None)
    whole = [(*each, *usual[len(each) :]) for each in rows]
    return list(zip(*whole, strict=True))


if __name__ == "__main__":
    main()
