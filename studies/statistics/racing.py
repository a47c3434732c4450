"""What racing on the evaluation set saves: `python -m studies.statistics.racing`.

Tables of scores [contenders, samples] of 21,435 samples, questions of one picture side
by side: of the embedded models, as studies kept them, their pictures drawn again and
some answers changed; and drawn ones, whose contenders are far apart, close or equal.
The product's own race runs on them. Told are the samples scored beside scoring
everything, how often something stopped that is more than 0.2 points better than the
winner (in truth, and on the whole table), and how often intervals hold the truth.
`--record STORAGE NAME MODEL` takes the scores of a study's evaluations, once. Writes
studies/results/statistics_racing.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.bench.prepare import prepare
from allocator.core.allocation import Allocation, Choice
from allocator.core.study import StudySpec
from allocator.search.contest import Contest
from allocator.search.elimination import TIE, Race, Racer
from allocator.search.goals import WithinBudget
from allocator.search.measured import Measured
from allocator.study.journal import MEASURED, Journal
from evals.subsets import Subsets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

RESULTS = Path(__file__).parents[1] / "results"
VALUES, OUT = RESULTS / "racing_values.json", RESULTS / "statistics_racing.json"
SAMPLES = 21_435
# questions of a picture in VQAv2, on average
ASKED = 5.4
# answers of the embedded models that are changed
CHANGED = 0.02
# true scores below full precision's, in points: a search for a budget compares six that
# are finalized, and uniform allocations as the bank has them
FINALIZED = 6
UNIFORM = (6, 8, 10, 12, 15, 20, 30, 40)
DRAWN: dict[str, Sequence[float]] = {
    "far": (1, 2, 3, 4, 5, 6, *UNIFORM),
    "close": (1, 1.1, 1.2, 1.3, 1.5, 1.8, *UNIFORM),
    "equal": (1, 1, 1, 1, 1, 1, *UNIFORM),
}
# runs, and those of which intervals are worked out
RUNS, COVERED = 400, 150


@dataclass(frozen=True)
class Table:
    """Scores that are compared, and what is true of them.

    `rows` [1 + contenders, samples], full precision first; `true` [1 + contenders]:
    means of all there might be.
    """

    rows: Floats
    true: Floats


@dataclass(frozen=True)
class Recorded:
    """Tables made of the scores of an embedded model; pictures have two questions.

    `values` [rows, pictures, questions].
    """

    values: Floats

    @cached_property
    def pictures(self) -> Ints:
        """[samples]."""
        return np.repeat(np.arange(SAMPLES), self.values.shape[2])[:SAMPLES]

    def draw(self, rng: np.random.Generator) -> Table:
        """Pictures drawn again until there are enough questions."""
        drawn = rng.integers(self.values.shape[1], size=self.pictures[-1] + 1)
        rows = self.values[:, drawn].reshape(len(self.values), -1)[:, :SAMPLES].copy()
        # each row errs by itself on some
        other = rows[:, rng.permutation(SAMPLES)]
        changed = rng.random(rows.shape) < CHANGED
        rows[changed] = other[changed]
        return Table(rows, self.values.mean(axis=(1, 2)))


@dataclass(frozen=True)
class Simulated:
    """Tables of answers that thirds of people gave, alike among the contenders.

    A question is answered well where a normal number lies below a threshold; `near` of
    its variance is shared by all, a tenth of the rest by questions of a picture.
    """

    below: Sequence[float]
    near: float
    score: float = 75.0

    @cached_property
    def pictures(self) -> Ints:
        """[samples], of as many questions as VQAv2 asks."""
        sizes = np.random.default_rng(0).poisson(ASKED - 1, size=SAMPLES) + 1
        return np.repeat(np.arange(SAMPLES), sizes)[:SAMPLES]

    def draw(self, rng: np.random.Generator) -> Table:
        """Answers to as many questions."""
        means = self.score - np.array((0.0, *self.below))
        shape = len(means), SAMPLES
        own = rng.standard_normal(shape, dtype=np.float32) * 0.9**0.5
        by_picture = rng.standard_normal(shape, dtype=np.float32)[:, self.pictures]
        latent = (own + by_picture * 0.1**0.5) * (1 - self.near) ** 0.5
        latent += rng.standard_normal(SAMPLES, dtype=np.float32) * self.near**0.5
        # a right answer counts 1/3, 2/3 or all: 0.9 of its worth on average
        thirds = rng.choice([100 / 3, 200 / 3, 100.0], size=SAMPLES, p=[0.1, 0.1, 0.8])
        least = [NormalDist().inv_cdf(mean / 90) for mean in means]
        return Table((latent < np.array(least)[:, None]) * thirds, means)


def raced(
    table: Table, looks: Subsets, pictures: Ints, seed: int, *, covers: bool
) -> dict[str, Any]:
    """A race on a table, and what came of it."""
    rng = np.random.default_rng(seed)
    count = len(table.rows) - 1
    names = [Allocation(((f"g{at}", Choice(4, "gptq")),)) for at in range(count)]
    # what was finalized fills the budget, uniform allocations do not
    sizes = 4.0 - np.where(np.arange(count) < FINALIZED, 0.01, 0.8) * rng.random(count)
    # a third of them are what the search is held against
    given = set(rng.permutation(count)[: count // 3].tolist())
    racers = [
        Racer(
            names[at],
            float(sizes[at]),
            partial(_measured, names[at], table.rows[at + 1], looks),
            given=at in given,
        )
        for at in range(count)
    ]
    race = Race(racers, looks, pictures, (), TIE)
    race.run()
    winner = race.choose()
    at = racers.index(winner)
    means = table.rows[1:].mean(axis=1)
    scored = sum(each.scored.samples for each in racers) + looks.total
    stopped = [n for n, each in enumerate(racers) if not each.scored.is_whole]
    told = {
        "saving": (count + 1) * looks.total / scored,
        "whole": count - len(stopped),
        "wrong": any(table.true[n + 1] > table.true[at + 1] + TIE for n in stopped),
        "wrong of all": max(table.true[1:]) > table.true[means.argmax() + 1] + TIE,
        "wrong on these": any(means[n] > means[at] + TIE for n in stopped),
        "missed": float(means.max() - means[at]),
        "below given": any(
            race.mean(each, each.scored.samples)
            > race.mean(winner, each.scored.samples)
            for n, each in enumerate(racers)
            if n in given
        ),
    }
    if covers:
        told |= _covered(race, winner, table, at, given)
    return told


def _measured(
    allocation: Allocation, row: Floats, looks: Subsets, size: int
) -> Measured:
    seen = looks.places(size)
    values = tuple(row[list(seen)].tolist())
    whole = size == looks.total
    return Measured(allocation, values, allocation.digest, seen=() if whole else seen)


def _covered(
    race: Race, winner: Racer, table: Table, at: int, given: set[int]
) -> dict[str, Any]:
    """Whether intervals hold the truth: the winner's, and its gains over the given."""
    space: Any = SimpleNamespace(fits=lambda _: True, bpw=lambda _: 4.0)
    full = Measured(Allocation(()), tuple(table.rows[0].tolist()), "")
    held = [race.held_against(each, winner) for each in race.racers]
    evaluate: Any = None
    contest = Contest(WithinBudget(space), full, evaluate, lambda bank: bank, 0)
    for each in held:
        contest.note(each)
    true = table.true[1:]
    score = contest.score(held[at])
    found: dict[str, Any] = {"score": _holds(score, true[at])}
    found |= {"over": [], "stopped": []}
    for other in given - {at}:
        gain = contest.versus(held[at], held[other])
        kind = "over" if held[other].is_whole else "stopped"
        found[kind].append(_holds(gain, true[at] - true[other]))
    return found


def _holds(interval: Any, true: float) -> bool:
    return bool(interval.low - 1e-9 <= true <= interval.high + 1e-9)


def case(
    name: str, source: Recorded | Simulated, runs: int, covered: int
) -> Mapping[str, Any]:
    """A row of the table of results."""
    looks = Subsets.of(source.pictures.tolist())
    found = []
    for run in range(runs):
        table = source.draw(np.random.default_rng(run))
        is_covered = run < covered
        found.append(raced(table, looks, source.pictures, run, covers=is_covered))

    def share(kind: str) -> float | None:
        values = [each[kind] for each in found if kind in each]
        flat = [x for v in values for x in (v if isinstance(v, list) else [v])]
        return round(100 * float(np.mean(flat)), 2) if flat else None

    saving = [each["saving"] for each in found]
    return {
        "case": name,
        "runs": runs,
        "saving": round(1 / float(np.mean([1 / each for each in saving])), 2),
        "least saving": round(min(saving), 2),
        "see everything": round(float(np.mean([each["whole"] for each in found])), 2),
        "wrong %": share("wrong"),
        "wrong where the best of all is taken %": share("wrong of all"),
        "wrong on these samples %": share("wrong on these"),
        "below given %": share("below given"),
        "missed points": round(float(np.mean([each["missed"] for each in found])), 3),
        "covered runs": covered,
        "score covered %": share("score"),
        "gain over the other covered %": share("over"),
        "gain over what stopped covered %": share("stopped"),
    }


def cases() -> Iterator[tuple[str, Recorded | Simulated]]:
    """Recorded models, then simulations."""
    known = json.loads(VALUES.read_text()) if VALUES.exists() else {}
    for name, kept in known.items():
        levels = np.array(kept["levels"])
        rows = np.array([[int(x, 36) for x in row] for row in kept["rows"]])
        yield name, Recorded(levels[rows].reshape(len(rows), -1, 2))
    for name, below in DRAWN.items():
        for near in (0.95, 0.9):
            yield f"{name}, {near:g} alike", Simulated(below, near)


def record(storage: str, study: str, model: str) -> None:
    """Keep what a study evaluated on all samples: full precision first.

    The questions of a picture stand side by side; each score is a letter.
    """
    found = Journal.load(storage, study).attributes(MEASURED)
    rows = np.array([each["values"] for each in found if each["values"]])
    samples = prepare(StudySpec("4.0", "vqav2", model=model)).samples["evaluation"]
    order = sorted(range(len(samples)), key=lambda at: str(samples[at].image))
    levels, at = np.unique(rows[:, order].round(2), return_inverse=True)
    at = at.reshape(rows.shape)[np.argsort(-rows.mean(axis=1))]
    known = json.loads(VALUES.read_text()) if VALUES.exists() else {}
    letters = np.array([*"0123456789abcdefghijklmnopqrstuvwxyz"])
    told = ["".join(row) for row in letters[at]]
    known[model] = {"levels": levels.tolist(), "rows": told}
    VALUES.write_text(json.dumps(known, indent=0) + "\n")


def main() -> None:
    """Run all cases, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", nargs=3, metavar=("STORAGE", "STUDY", "MODEL"))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--covered", type=int, default=COVERED)
    parser.add_argument("--only", default="", help="cases whose names begin so")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.record:
        record(*given.record)
        return
    table = []
    for name, source in cases():
        if not name.startswith(given.only):
            continue
        since = time.monotonic()
        row = case(name, source, given.runs, min(given.covered, given.runs))
        table.append(row)
        seconds = time.monotonic() - since
        print(json.dumps(row), f"{seconds:.0f} s", flush=True)
        given.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
