"""How much too good what a search says of its front is, and what is left once mended.

    python -m studies.statistics.optimism [--quick | --kept | --only MODEL]

Searches the embedded models with ten seeds, each in a study of its own that is kept in
the folder, then scores everything that was measured in it on the evaluation set. What
is in the folder is not done again. A row for each member of a front: its score on the
search set, as it was shown before, as it is shown, and as it is on the evaluation set.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.core.clock import Clock
from allocator.core.home import cache_home
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.explain.explanation import space_of_study
from allocator.explain.shown import CORRECTED, PROPOSAL, Shown
from allocator.search.estimate import estimate
from allocator.search.run import run_prepared
from allocator.space.fronts import front
from allocator.study.journal import Journal
from allocator.study.per_sample import decode_scores, encode_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from allocator.core.allocation import Allocation

MODELS = ("tiny-blip2", "tiny-llava")
SEEDS = 10
QUICK_TRIALS = 6
# budgets whose estimates are held against what they name, and those of a sweep
BUDGETS = ("3.6", "3.75", "3.9", "4.5")
SWEEP = [f"{budget / 100:.2f}" for budget in range(335, 600, 5)]
RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Row:
    """A member of the front of the search set; `shown` is None where it was dropped."""

    model: str
    seed: int
    digest: str
    kind: str
    bpw: float
    search: float
    samples: str
    shown: float | None
    low: float | None
    high: float | None
    evaluation: float


@dataclass(frozen=True)
class Guess:
    """An estimate, and what the allocation that it names scores."""

    model: str
    seed: int
    budget: str
    bpw: float
    estimate: float
    spread: float
    evaluation: float


@dataclass(frozen=True)
class Case:
    """A model searched with a seed, and where that is kept."""

    model: str
    seed: int
    folder: Path
    trials: int = 20

    @property
    def asked(self) -> StudySpec:
        """The main job, in a study of its own."""
        storage = f"sqlite:///{self.folder}/{self.model}-{self.seed}.db"
        own: dict[str, Any] = {"storage": storage, "study": "study"}
        own |= {"model": self.model, "seed": self.seed, "trials": self.trials}
        return StudySpec("4.0", "vqav2", **own)

    @property
    def truth_file(self) -> Path:
        """Where evaluation scores of what was measured are kept."""
        return self.folder / f"{self.model}-{self.seed}.json"

    def search(self) -> None:
        """Search, and score everything measured on the evaluation set."""
        if self.truth_file.exists():
            return
        run_prepared(prepare(self.asked), Silent(), Clock())
        journal = Journal.load(self.asked.storage, "study")
        records = journal.records(space_of_study(journal))
        self.truth([record.allocation for record in records])

    def truth(self, allocations: Iterable[Allocation]) -> dict[str, float]:
        """Scores on the evaluation set, by digest; those that nobody knows are made."""
        kept: dict[str, str] = {}
        if self.truth_file.exists():
            kept = json.loads(self.truth_file.read_text())
        missing = [each for each in allocations if each.digest not in kept]
        if missing:
            setup = prepare(self.asked)
            bench = open_bench(setup, Silent())
            for each in missing:
                score = bench.score(each, setup.samples["evaluation"])
                kept[each.digest] = encode_scores(score.values)
            draft = self.truth_file.with_suffix(".draft")
            draft.write_text(json.dumps(kept))
            draft.rename(self.truth_file)
        return {d: float(np.mean(decode_scores(text))) for d, text in kept.items()}

    def rows(self) -> list[Row]:
        """Members of the front, before and after."""
        journal = Journal.load(self.asked.storage, "study")
        space = space_of_study(journal)
        shown, truth = Shown.of(journal, space), self.truth([])
        records = list(shown.records.values())
        after = {m.allocation.digest: m for m in shown.front(space)}
        found = []
        for place in front([(r.bpw, r.score) for r in records]):
            record = records[place]
            digest = record.allocation.digest
            member = after.get(digest)
            low, high = (member.ci95 if member else None) or (None, None)
            found.append(
                Row(
                    self.model,
                    self.seed,
                    digest,
                    record.kind,
                    record.bpw,
                    record.score,
                    shown.samples(digest),
                    member.score if member else None,
                    low,
                    high,
                    truth[digest],
                )
            )
        return found

    def guesses(self) -> list[Guess]:
        """Estimates of other budgets, and how good what they name is."""
        told = {budget: self.estimated(budget) for budget in BUDGETS}
        made = {budget: each for budget, each in told.items() if each}
        truth = self.truth(each.allocation for each in made.values())
        return [
            Guess(
                self.model,
                self.seed,
                budget,
                each.bpw,
                each.score,
                each.spread,
                truth[each.allocation.digest],
            )
            for budget, each in made.items()
        ]

    def estimated(self, budget: str) -> Any:
        """The estimate of a budget."""
        return estimate(replace(self.asked, budget=budget))

    def falls(self) -> int:
        """Budgets of a sweep that are promised less than the one before."""
        told = [self.estimated(budget) for budget in SWEEP]
        scores = [each.score for each in told if each]
        return sum(b < a for a, b in pairwise(scores))


def mean_of(values: dict[Any, list[float]]) -> str:
    """Mean over all, with the standard error over studies."""
    studies = [float(np.mean(own)) for own in values.values() if own]
    every = [value for own in values.values() for value in own]
    if len(studies) < 2:
        return f"{np.mean(every):+.3f} ({len(every)})"
    error = float(np.std(studies, ddof=1)) / len(studies) ** 0.5
    return f"{np.mean(every):+.3f} +- {error:.3f} ({len(every)} of {len(studies)})"


def summary(rows: Sequence[Row], guesses: Sequence[Guess], falls: int) -> list[str]:
    """What it comes to."""
    kinds: dict[str, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    inside: list[bool] = []
    for row in rows:
        study = row.model, row.seed
        kinds["before, all members"][study].append(row.search - row.evaluation)
        if row.kind == PROPOSAL:
            kinds["before, proposals"][study].append(row.search - row.evaluation)
        if row.shown is None:
            continue
        kinds["after, all members"][study].append(row.shown - row.evaluation)
        if row.samples == CORRECTED:
            kinds["before, those corrected"][study].append(row.search - row.evaluation)
            kinds["after, those corrected"][study].append(row.shown - row.evaluation)
            if row.low is not None and row.high is not None:
                inside.append(row.low <= row.evaluation <= row.high)
    for guess in guesses:
        own = kinds["estimates"][guess.model, guess.seed]
        own.append(guess.estimate - guess.evaluation)
    return [
        *(f"{name}: {mean_of(values)}" for name, values in kinds.items()),
        f"corrected intervals that hold the evaluation score: {sum(inside)} of "
        f"{len(inside)}",
        f"estimates that a larger budget lowers: {falls}",
    ]


def write(name: str, kind: type, rows: Sequence[Any]) -> None:
    """A table of dataclasses."""
    names = [field.name for field in fields(kind)]
    with (RESULTS / name).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        for row in rows:
            cells = (getattr(row, each) for each in names)
            table.writerow(f"{c:.4f}" if isinstance(c, float) else c for c in cells)


def judged(cases: Sequence[Case], *, quick: bool) -> None:
    """Print what searches come to, and write it down."""
    rows, guesses, falls = list[Row](), list[Guess](), 0
    for case in cases:
        rows += case.rows()
        guesses += [] if quick else case.guesses()
        falls += case.falls()
        print("judged", case.model, case.seed, flush=True)
    print("\n".join(summary(rows, guesses, falls)))
    if not quick:
        write("statistics_optimism.csv", Row, rows)
        write("statistics_optimism_estimates.csv", Guess, guesses)


def main() -> None:
    """Search what is missing, and say what it comes to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short search")
    parser.add_argument("--kept", action="store_true", help="nothing that is not there")
    parser.add_argument("--only", choices=MODELS, help="search one, and judge nothing")
    parser.add_argument("--folder", type=Path, default=cache_home() / "optimism")
    options = parser.parse_args()
    folder = options.folder.absolute() / ("quick" if options.quick else "")
    folder.mkdir(parents=True, exist_ok=True)
    models = [options.only] if options.only else MODELS
    cases = [Case(m, seed, folder) for seed in range(SEEDS) for m in models]
    if options.quick:
        cases = [Case(MODELS[0], 0, folder, QUICK_TRIALS)]
    if options.kept:
        cases = [case for case in cases if case.truth_file.exists()]
    for case in cases:
        case.search()
        print(case.model, case.seed, flush=True)
    if not options.only:
        judged(cases, quick=options.quick)


if __name__ == "__main__":
    main()
