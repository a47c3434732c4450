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
from functools import partial
from pathlib import Path
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
from allocator.study.per_sample import decode_scores, encode_scores
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

    `rows` [1 + contenders, samples], full precision first; `pictures` [samples];
    `true` [1 + contenders]: means of all there might be.
    """

    rows: Floats
    pictures: Ints
    true: Floats


@dataclass(frozen=True)
class Recorded:
    """Tables made of the scores of an embedded model."""

    values: Floats
    pictures: Ints

    def draw(self, rng: np.random.Generator, count: int = SAMPLES) -> Table:
        """Pictures drawn again until there are enough questions."""
        order = np.argsort(self.pictures, kind="stable")
        each = np.split(order, np.flatnonzero(np.diff(self.pictures[order])) + 1)
        drawn = rng.integers(len(each), size=count)
        places = np.concatenate([each[at] for at in drawn])[:count]
        pictures = np.repeat(np.arange(count), [len(each[at]) for at in drawn])[:count]
        rows = self.values[:, places].copy()
        # each row errs by itself on some
        other = self.values[:, rng.integers(self.values.shape[1], size=count)]
        changed = rng.random(rows.shape) < CHANGED
        rows[changed] = other[changed]
        return Table(rows, pictures, self.values.mean(axis=1))


@dataclass(frozen=True)
class Simulated:
    """Tables of answers that thirds of people gave, alike among the contenders.

    A question is answered well where a normal number exceeds a threshold; `near` of its
    variance is shared by all, a tenth of the rest by questions of a picture.
    """

    below: Sequence[float]
    near: float
    score: float = 75.0

    def draw(self, rng: np.random.Generator, count: int = SAMPLES) -> Table:
        """Questions of pictures, until there are enough."""
        sizes = rng.poisson(ASKED - 1, size=count) + 1
        pictures = np.repeat(np.arange(count), sizes)[:count]
        means = self.score - np.array((0.0, *self.below))
        shared = rng.standard_normal(count)
        own = rng.standard_normal((len(means), count)) * 0.9**0.5
        own += rng.standard_normal((len(means), count))[:, pictures] * 0.1**0.5
        latent = shared * self.near**0.5 + own * (1 - self.near) ** 0.5
        uniform = _normal_cdf(latent)
        # a right answer counts 1/3, 2/3 or all: 0.9 of its worth on average
        thirds = rng.choice([1 / 3, 2 / 3, 1.0], size=count, p=[0.1, 0.1, 0.8])
        right = uniform < (means / 100 / 0.9)[:, None]
        return Table(100 * right * thirds, pictures, means)


def _normal_cdf(values: Floats) -> Floats:
    """Abramowitz and Stegun 26.2.17, absolute error below 1e-7."""
    t = 1 / (1 + 0.2316419 * np.abs(values))
    terms = (0.31938153, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
    total = sum(c * t ** (n + 1) for n, c in enumerate(terms))
    tail = np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi) * total
    return np.asarray(np.where(values > 0, 1 - tail, tail))


def raced(table: Table, seed: int, *, covers: bool) -> dict[str, Any]:
    """A race on a table, and what came of it."""
    looks = Subsets.of(table.pictures.tolist(), seed=seed)
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
    race = Race(racers, looks, table.pictures, (), TIE)
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
    found = [
        raced(source.draw(np.random.default_rng(run)), run, covers=run < covered)
        for run in range(runs)
    ]

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
        rows = np.array([decode_scores(row) for row in kept["rows"]])
        yield name, Recorded(rows.astype(np.float64), np.array(kept["pictures"]))
    for name, below in DRAWN.items():
        for near in (0.95, 0.9):
            yield f"{name}, {near:g} alike", Simulated(below, near)


def record(storage: str, study: str, model: str) -> None:
    """Keep what a study evaluated on all samples: full precision first."""
    found = Journal.load(storage, study).attributes(MEASURED)
    rows = [each["values"] for each in found if each["values"]]
    samples = prepare(StudySpec("4.0", "vqav2", model=model)).samples["evaluation"]
    images = [sample.image for sample in samples]
    number = {image: at for at, image in enumerate(dict.fromkeys(images))}
    rows.sort(key=lambda row: -sum(row))
    known = json.loads(VALUES.read_text()) if VALUES.exists() else {}
    known[model] = {
        "pictures": [number[image] for image in images],
        "rows": [encode_scores(row) for row in rows],
    }
    VALUES.write_text(json.dumps(known) + "\n")


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
