"""A search by 1 to 512 workers, simulated: `python studies/scale/crew.py`.

Wall time and its parts, efficiency, regret against wall time, what the storage is
asked: means over seeds of starts, deaths and jitter. What one of each thing takes is
from `cost.py` (assumed for an H100) and `database.py` (measured); what a score is worth
from `studies/search/at_once_looks.py`. Writes studies/results/scale_crew.json and .md,
and the figures beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

# run by its path, from anywhere
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from studies.scale.crew_simulated import Costs, Outcome, Simulated
from studies.scale.crew_work import Plan, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
RESULTS = Path(__file__).parents[1] / "results"
LOOKS = Path(__file__).parents[1] / "search" / "at_once_looks.jsonl"
ONE, MANY = Plan(), Plan(at_once=16)
PLANS = {
    "1 at once": ONE,
    "4 at once": Plan(at_once=4),
    "16 at once": MANY,
    "16 at once, finalizations shared by 8": replace(MANY, finalized=8),
    "the same, full precision by all": replace(MANY, finalized=8, shares_full=True),
    "the same, 160 proposals": Plan(160, 16, 8, True),
}
PARTS = {
    "start and full precision": ("full precision",),
    "bank": ("bank",),
    "baselines, probes": ("baselines", "probes", "rivals"),
    "rungs": ("rung of 32", "rung of 128", "rung of 256"),
    "proposals": ("proposals",),
    "finalization": ("finalization",),
    "last race": ("finalists", "confirmation", "shown", "divergence"),
}


def simulated(plan: Plan, workers: int, costs: Costs, seeds: int) -> list[Outcome]:
    """The same search with other starts, deaths and jitter."""
    stages = list(Work(plan).stages())
    return [Simulated(stages, workers, costs, seed).run() for seed in range(seeds)]


def row(
    name: str, workers: int, found: Sequence[Outcome], alone: float
) -> dict[str, Any]:
    """Means over the seeds."""
    seconds = float(np.mean([each.seconds for each in found]))
    parts: Counter[str] = Counter()
    peaks = []
    for each in found:
        for part, begun, end, *_ in each.stages:
            parts[part] += (end - begun) / len(found)
        peaks.append(max(rate(stage) for stage in each.stages))
    operations = sum(stage[4] for each in found for stage in each.stages)
    shared = {key: sum(parts[name] for name in own) for key, own in PARTS.items()}
    shared["start and full precision"] += Costs().start
    last = np.mean([each.scores[-1][0] for each in found])
    return {
        "plan": name,
        "workers": workers,
        "minutes": seconds / 60,
        "spread": float(np.std([each.seconds for each in found])) / 60,
        "speed-up": alone / seconds,
        "efficiency": alone / seconds / workers,
        "minutes to the last score": float(last) / 60,
        "operations a second": operations / sum(each.seconds for each in found),
        "most in a stage": float(np.mean(peaks)),
        "pieces lost": float(np.mean([each.lost for each in found])),
        "parts": {key: value / 60 for key, value in shared.items()},
        "scores": mean_scores(found),
    }


def rate(stage: tuple[str, float, float, float, float, float]) -> float:
    """Operations a second of a stage that takes a second at least."""
    return stage[4] / max(stage[2] - stage[1], 1.0)


def mean_scores(found: Sequence[Outcome]) -> list[tuple[float, int]]:
    """Minutes after which so many scores are known, mean over seeds."""
    times = (
        np.array([[at for at, _ in each.scores] for each in found]).mean(axis=0) / 60
    )
    return list(zip(times.tolist(), [n for _, n in found[0].scores], strict=True))


def simulate_all(seeds: int, costs: Costs) -> list[dict[str, Any]]:
    """Every plan with every number of workers."""
    rows = []
    for name, plan in PLANS.items():
        alone = float(np.mean([e.seconds for e in simulated(plan, 1, costs, seeds)]))
        for workers in WORKERS:
            rows.append(
                row(name, workers, simulated(plan, workers, costs, seeds), alone)
            )
        print(f"{name}: {rows[-1]['minutes']:.1f} minutes by {workers}", flush=True)
    return rows


def deaths(seeds: int, costs: Costs) -> list[dict[str, Any]]:
    """What it costs that processes die, or the leader halfway."""
    rows = []
    stages = list(Work(MANY).stages())
    for workers in (8, 64, 512):
        never = replace(costs, deaths=0.0)
        base = [Simulated(stages, workers, never, seed).run() for seed in range(seeds)]
        minutes = {"none": base}
        for share in (0.01, 0.3):
            own = replace(costs, deaths=share)
            name = f"{share:.0%} an hour"
            minutes[name] = [
                Simulated(stages, workers, own, s).run() for s in range(seeds)
            ]
        minutes["the leader, halfway"] = [
            Simulated(stages, workers, never, seed, each.seconds / 2).run()
            for seed, each in enumerate(base)
        ]
        lost = {
            k: float(np.mean([e.lost for e in found])) for k, found in minutes.items()
        }
        means = {
            k: float(np.mean([e.seconds for e in v])) / 60 for k, v in minutes.items()
        }
        rows.append({"workers": workers, "minutes": means, "pieces lost": lost})
    return rows


def regrets(way: str) -> dict[int, np.ndarray[Any, Any]]:
    """Mean regret after each score, by proposals at once, of planted models."""
    runs = [json.loads(line) for line in LOOKS.read_text().splitlines()]
    best: dict[tuple[float, int], float] = {}
    for budget, seed, *_, course in runs:
        best[budget, seed] = max(best.get((budget, seed), -np.inf), course[-1])
    found: dict[int, list[Any]] = {}
    for budget, seed, times, own, race, course in runs:
        if (own, race) == (way, "together") or times == 1:
            found.setdefault(times, []).append(best[budget, seed] - np.array(course))
    return {times: np.mean(rows, axis=0) for times, rows in sorted(found.items())}


def markdown(rows: Sequence[dict[str, Any]], lost: Sequence[dict[str, Any]]) -> str:
    """Tables: wall time and efficiency, parts, the storage, deaths."""
    lines = []
    for name in PLANS:
        own = [each for each in rows if each["plan"] == name]
        lines += [f"## {name}", "", "| workers | minutes | speed-up | efficiency | "]
        lines[-1] += (
            f"{' | '.join(PARTS)} | operations a second, mean | most in a stage |"
        )
        lines.append("|---" * (6 + len(PARTS)) + "|")
        for each in own:
            parts = [f"{each['parts'][part]:.1f}" for part in PARTS]
            cells = [
                f"{each['workers']}",
                f"{each['minutes']:.1f}",
                f"{each['speed-up']:.1f}",
                f"{each['efficiency']:.0%}",
                *parts,
                f"{each['operations a second']:,.0f}",
                f"{each['most in a stage']:,.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    names = list(lost[0]["minutes"])
    lines += ["## Deaths, 16 at once", "", f"| workers | {' | '.join(names)} |"]
    lines.append("|---" * (1 + len(names)) + "|")
    for each in lost:
        cells = [
            f"{each['minutes'][k]:.1f} ({each['pieces lost'][k]:.1f} lost)"
            for k in names
        ]
        lines.append(f"| {each['workers']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate, keep, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cores", type=int, default=8, help="of the database server")
    parser.add_argument("--way", default="mean", help="of proposing at once")
    parser.add_argument("--no-plot", action="store_true")
    parser.add_argument("--only-plot", action="store_true", help="what is kept")
    asked = parser.parse_args()
    costs, kept = Costs(cores=asked.cores), RESULTS / "scale_crew.json"
    if asked.only_plot:
        rows = json.loads(kept.read_text())["rows"]
    else:
        rows, lost = simulate_all(asked.seeds, costs), deaths(asked.seeds, costs)
        told = {"costs": vars(costs), "rows": rows, "deaths": lost}
        kept.write_text(json.dumps(told) + "\n")
        text = markdown(rows, lost)
        kept.with_suffix(".md").write_text(text)
        print(text)
    if not asked.no_plot:
        from studies.scale.crew_figures import draw

        served = 1 / costs.served[0]
        draw(rows, regrets(asked.way), served, costs.cores, Path(__file__).parent)


if __name__ == "__main__":
    main()
