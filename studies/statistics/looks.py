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
from dataclasses import dataclass, field
from math import exp, pi, sin
from pathlib import Path
from typing import Any

import numpy as np

from allocator.search.rungs import Rungs
from allocator.strategies._base import Candidate
from allocator.study.looks import (
    DIVERGENCE,
    LADDER,
    LEAST_CORRELATION,
    SCORE,
    SURE,
)
from allocator.study.proposed import Proposed
from surrogate.importance import spearman

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "statistics_looks.json"
# searches of what the rule is for, of what stands beside it, and in a hurry
SEARCHES, BESIDE, QUICK = 400, 100, 30
PROPOSALS, SOON = 20, 12
CANDIDATES = 48
TRUTHS = (0.0, 0.3, 0.5, 0.65, 0.8)
SURES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975)
LADDERS = {1000: LADDER, 400: LADDER[:2]}
# points: spread of the candidates' scores, and of the noise of one sample between two
SPREAD, NOISE = 3.0, 20.0
# of the divergence's noise, what the same samples do to the score
SHARED = 0.3
# how divergence on 32 samples follows that on 128; both on a logarithmic scale
FEWER, LOG_SPREAD, LOG_MEAN = 0.9, 0.45, -2.5
# what candidates gain from one proposal to the next where a search gets on, in spreads
GAIN = 0.05


@dataclass(frozen=True)
class Drawn:
    """In place of an allocation: its name and what it would show."""

    digest: str
    true: float = 0.0
    scores: dict[int, float] = field(default_factory=dict, compare=False)
    looks: dict[int, float] = field(default_factory=dict, compare=False)


@dataclass
class World:
    """Draws candidates whose looks have a rank correlation with their true scores."""

    truth: float
    total: int
    rng: np.random.Generator
    gain: float = 0.0
    made: int = 0

    def candidates(self, shift: float, count: int = CANDIDATES) -> list[Drawn]:
        """Some that a strategy proposes, `shift` spreads above the first ones."""
        pearson = 2 * sin(pi / 6 * self.truth)
        latent, own, few, *noise = self.rng.normal(size=(6, count))
        own = SHARED * noise[0] + (1 - SHARED**2) ** 0.5 * own
        many = pearson * latent + (1 - pearson**2) ** 0.5 * own
        fewer = FEWER * many + (1 - FEWER**2) ** 0.5 * few
        looks = np.exp(LOG_MEAN - LOG_SPREAD * (np.array([many, fewer]) + shift)).T
        said, before, scores = np.zeros(count), 0, []
        # the first samples are within the next
        for size, draw in zip(self.sizes, noise, strict=True):
            more = size - before
            said += more * (90 + SPREAD * (latent + shift)) + NOISE * more**0.5 * draw
            before = size
            scores.append(said / size)
        self.made += count
        rows = zip(latent.tolist(), np.array(scores).T.tolist(), looks, strict=True)
        return [
            Drawn(
                f"{self.made + at}",
                true,
                dict(zip(self.sizes, row, strict=True)),
                dict(zip((128, 32), two.tolist(), strict=True)),
            )
            for at, (true, row, two) in enumerate(rows)
        ]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Samples that scores are of."""
        return (128, 256, self.total)

    def baselines(self) -> list[Drawn]:
        """Seven that differ far more than candidates do, and in all alike."""
        found = []
        for at in range(7):
            scores = dict.fromkeys(self.sizes, 10.0 + 13 * at)
            looks = dict.fromkeys((32, 128), exp(0.7 - 0.6 * at))
            found.append(Drawn(f"baseline {at}", 0.0, scores, looks))
        return found


class Judged(Rungs):
    """Rungs that go on as if the divergence were trusted, with a schedule of choice."""

    schedule: tuple[int, ...] | None = None

    def trusts(self) -> bool:
        """What the rule says is asked beside."""
        return True

    def controls_due(self, made: int) -> int:
        """By the product's schedule, or another."""
        if self.schedule is None:
            return super().controls_due(made)
        return sum(at <= made for at in self.schedule)


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


class Trial:
    """One search under way."""

    def __init__(self, world: World, ladder: Any, schedule: tuple[int, ...] | None):
        self.world = world
        self.rungs = Judged(self._look, lambda a: a.digest, ladder)
        self.rungs.schedule, self.rungs.total = schedule, world.total
        self.proposed: dict[str, Proposed] = {}
        self.measured: list[Any] = []
        self.controls = 0
        for each in world.baselines():
            self.rungs.look_at(each)  # type: ignore[arg-type]
            self.measured.append((each, each.scores[world.total]))

    def _look(self, allocation: Any, kind: str, size: int) -> float:
        if kind == DIVERGENCE:
            return float(allocation.looks[size])
        self._learn_parts(allocation, size)
        return float(allocation.scores[size])

    def _learn_parts(self, allocation: Any, size: int) -> None:
        for few, value in allocation.scores.items():
            if few < size:
                self.rungs.learn(allocation, (SCORE, few), value)

    def step(self, made: int) -> float:
        """Measure a proposal; its true score."""
        world, rungs = self.world, self.rungs
        drawn = world.candidates(world.gain * made)
        found: Any = [Candidate(each) for each in drawn]  # type: ignore[arg-type]
        is_control = self.controls < rungs.controls_due(made)
        self.controls += is_control
        if is_control:
            found = rungs.drawn(found, world.rng)
            chosen: Any = rungs.control(found).allocation
        else:
            chosen = rungs.survivor(found, self.measured).allocation
        for each in found:
            if (DIVERGENCE, 128) in rungs.seen(each.allocation):
                self._propose(each.allocation, is_control)
        self._learn_parts(chosen, world.total)
        score = chosen.scores[world.total]
        self.measured.append((chosen, score))
        self._propose(chosen, is_control, score)
        rungs.proposed = list(self.proposed.values())
        return float(chosen.true + world.gain * made)

    def _propose(
        self, allocation: Any, is_control: bool, score: float | None = None
    ) -> None:
        one = Proposed(allocation, ("a goal", 4.0), is_control, score)
        self.proposed[allocation.digest] = one


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
