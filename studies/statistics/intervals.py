"""Whether intervals cover what was chosen: `python -m studies.statistics.intervals`.

Scores of samples are drawn for finalists, uniform allocations, the even mix, the
additive optimum and full precision, each with the bank's weights and with finalized
ones, whose true scores are known. The product's own end of a search (`confirm`) chooses
among them and gives its intervals; beside them those of a bootstrap that knows of no
choice. Writes studies/results/statistics_intervals.json.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allocator.core.allocation import Allocation, Budget, Choice, Scheme, Size
from allocator.core.records import ADDITIVE, EVEN_MIX, TrialRecord
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.search import confirm as end
from allocator.search.contest import Contest
from allocator.search.goals import FINALISTS, WithinBudget
from allocator.space.model import ModelSpace
from evals.interval import Draws
from studies.statistics._coverage import command, summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[Any]

OUT = Path(__file__).parents[1] / "results" / "statistics_intervals.json"
# values of a VQA answer, by how many people gave it
THIRDS = (1 / 3, 2 / 3, 1.0)
# true scores below the highest, in standard errors of a score; with finalized weights
# all are as good as with the bank's, but for `lifted`
TRUTHS: dict[str, dict[str, Sequence[float]]] = {
    "equal": {},
    "mixed": {"finalists": (0, 0, 1, 2, 4), "uniform": (1, 3), "rivals": (0.5, 2)},
    "ahead": {"finalists": (0, 1, 1, 2, 2), "uniform": (6, 12), "rivals": (4, 3)},
    "rival": {"finalists": (1,), "uniform": (0, 2), "rivals": (1, 2)},
    "lifted": {"finalists": (0, 1), "uniform": (0, 1), "rivals": (0, 1), "lift": (1,)},
}


@dataclass(frozen=True)
class Case:
    """What is drawn: `strata` samples of each task, `near` of one another's values.

    `budget` leaves room for the 2 bits alone (2.5), or for 3 bits as well (3.5).
    """

    truth: str
    strata: tuple[int, ...]
    metric: str
    score: float
    near: float
    methods: tuple[str, ...] = ("gptq",)
    finalize: bool = False
    budget: float = 3.5
    runs: int = 4_000


THREE = ("uniform", "gptq", "awq")
CASES = (
    Case("equal", (500,), "accuracy", 0.8, 0.5, budget=2.5),
    Case("equal", (500,), "accuracy", 0.94, 0.5, budget=2.5),
    Case("equal", (500,), "vqa", 0.94, 0.95, budget=2.5),
    Case("equal", (2_000,), "accuracy", 0.94, 0.8, budget=2.5),
    Case("equal", (2_000,), "vqa", 0.8, 0.5),
    Case("equal", (21_435,), "vqa", 0.7, 0.8, budget=2.5, runs=200),
    Case("equal", (300, 1_700), "accuracy", 0.8, 0.8, budget=2.5),
    Case("equal", (500,), "accuracy", 0.94, 0.5, THREE, True),
    Case("equal", (2_000,), "vqa", 0.94, 0.8, THREE, True),
    Case("mixed", (500,), "accuracy", 0.94, 0.8, runs=2_000),
    Case("mixed", (2_000,), "vqa", 0.8, 0.5, THREE, True, runs=2_000),
    Case("ahead", (2_000,), "accuracy", 0.94, 0.8, THREE, True, runs=2_000),
    Case("rival", (500,), "accuracy", 0.8, 0.5, THREE, True, runs=2_000),
    Case("lifted", (2_000,), "accuracy", 0.94, 0.8, THREE, True, runs=2_000),
)


@dataclass(frozen=True)
class Drawn:
    """What a choice sees of something measured."""

    allocation: Allocation
    mean: float
    finalized: str | None = None
    applied: str = ""
    failed: str | None = None
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Block:
    """Runs that share the draws of the bootstrap, as all runs of one seed do."""

    draws: Draws
    columns: dict[tuple[str, str | None], int]
    full: int
    run: int = 0

    def of_run(self, keys: Sequence[int]) -> Draws:
        """Draws of some rows of the run."""
        at = np.asarray(keys) + self.run * (len(self.columns) + 1)
        return Draws(self.draws.means[at], self.draws.errors[:, at])

    def measured(self, allocation: Allocation, finalized: str | None = None) -> Drawn:
        """Something of the run."""
        at = self.columns.get((allocation.digest, finalized), self.full)
        mean = float(self.of_run([at]).means[0])
        return Drawn(allocation, mean, finalized)


class Stacked(Contest):
    """The product's, with draws that were made for many runs at once."""

    block: Block

    @cached_property
    def _draws(self) -> Draws:
        keys = [self.block.columns.get(key, self.block.full) for key in self._seen]
        return self.block.of_run([*keys, self.block.full])


class Sized(ModelSpace):
    """A space that works out each size once."""

    sizes: ClassVar[dict[str, Size]] = {}

    def size(self, allocation: Allocation) -> Size:
        """Stored size in both scopes."""
        key = allocation.digest
        if key not in self.sizes:
            self.sizes[key] = super().size(allocation)
        return self.sizes[key]


@cache
def space_of(methods: tuple[str, ...], budget: float) -> ModelSpace:
    """Twelve groups of one size."""
    linears = [
        Linear(f"{part}.{block}", part, block, "all", 512, 128)
        for part in ("vision", "connector", "language")
        for block in range(4)
    ]
    spec = ModelSpec("toy", 800_000, build_groups(linears, "block"), ())
    choices = tuple(Choice(bits, m) for bits in (2, 3) for m in methods)
    return Sized(spec, Scheme(), choices, Budget(budget))


def drawn_values(case: Case, short: Floats, runs: int, rng: Any) -> tuple[Floats, Any]:
    """Values [runs, rows, samples] and true scores of rows.

    `short` says by how many standard errors each row's true score is below the highest;
    rows are bank and finalized in turn, which share half of what is their own.
    """
    samples = sum(case.strata)
    shared = np.float32(latent(case.near, case.metric, case.score))
    shape = (runs, len(short), samples)
    own = rng.standard_normal(shape, dtype=np.float32)
    own[:, 1::2] = np.sqrt(0.5) * (own[:, 1::2] + own[:, : len(short) - 1 : 2])
    own *= np.sqrt(1 - shared)
    own += np.sqrt(shared) * rng.standard_normal((runs, 1, samples), dtype=np.float32)
    error = np.sqrt(case.score * (1 - case.score) / samples)
    values, truth = np.empty(shape, np.float32), np.empty(len(short))
    for row, below in enumerate(short):
        values[:, row], truth[row] = graded(
            own[:, row], case.metric, case.score - below * error
        )
    # tasks count the same however many samples they have; one is twice as hard to score
    weights = np.concatenate(
        [
            np.full(count, scale * samples / count / len(case.strata))
            for count, scale in zip(case.strata, (1, 2), strict=False)
        ]
    )
    return values * weights.astype(np.float32), truth * weights.mean()


def graded(own: Floats, metric: str, score: float) -> tuple[Floats, float]:
    """Values of samples in percent from what is latent, and their true mean."""
    if metric == "accuracy":
        return 100.0 * (own < NormalDist().inv_cdf(score)), 100 * score
    shares = [min(score + more, 0.999) for more in (0.05, 0.01, -0.06)]
    edges = [NormalDist().inv_cdf(share) for share in shares]
    given = np.sum([own < edge for edge in edges], axis=0)
    return 100 / 3 * given, 100 * sum(shares) / 3


@cache
def latent(near: float, metric: str, score: float) -> float:
    """Correlation of latent values at which those of samples have the one asked for."""
    shared, one, two = np.random.default_rng(0).standard_normal((3, 200_000))
    low, high = near, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        pair = [
            graded(np.sqrt(middle) * shared + np.sqrt(1 - middle) * own, metric, score)
            for own in (one, two)
        ]
        is_less = np.corrcoef(pair[0][0], pair[1][0])[0, 1] < near
        low, high = (middle, high) if is_less else (low, middle)
    return (low + high) / 2


def contestants(space: ModelSpace, case: Case) -> dict[str, list[Allocation]]:
    """Who takes part: five finalists, the uniform ones that fit, two rivals."""
    low = space.alike(space.choices[0])
    wide = space.choices[len(case.methods)]
    # of one group wider each, so that all fit
    several = [low.replace({key: wide}) for key in space.keys]
    return {
        "finalists": several[:FINALISTS],
        "uniform": [each for each in space.uniform if space.fits(each)],
        "rivals": several[FINALISTS : FINALISTS + 2],
    }


def short_of(case: Case, who: Mapping[str, Sequence[Allocation]]) -> Floats:
    """How far true scores are below the highest, bank and finalized in turn."""
    told, found = TRUTHS[case.truth], []
    lift = told.get("lift", (0,))[0]
    for kind, several in who.items():
        below = told.get(kind, (0,))
        for at in range(len(several)):
            own = below[min(at, len(below) - 1)]
            found += [own + lift, own]
    return np.array([*found, -0.5])


def run(case: Case, runs: int, seed: int) -> dict[str, Any]:
    """How often intervals cover and lie above 0, and how wide they are."""
    space = space_of(case.methods, case.budget)
    # room for a group more than the uniform ones have
    who = contestants(space, case)
    short = short_of(case, who)
    everyone = [a for several in who.values() for a in several]
    columns = {
        (a.digest, weights): 2 * at + which
        for at, a in enumerate(everyone)
        for which, weights in enumerate((None, "in sequence"))
    }
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    size = max(1, 2_500_000 // (len(short) * sum(case.strata)))
    while len(found) < runs:
        count = min(size, runs - len(found))
        values, truth = drawn_values(case, short, count, rng)
        rows = values.reshape(-1, values.shape[-1])
        block = Block(Draws.of(rows, 0, case.strata), columns, len(short) - 1)
        for block.run in range(count):
            found.append(once(case, space, who, block, truth))
    return summary(found)


def once(
    case: Case,
    space: ModelSpace,
    who: Mapping[str, Sequence[Allocation]],
    block: Block,
    truth: Floats,
) -> dict[str, Any]:
    """One end of a search: its intervals beside the truth and beside plain ones."""
    records = [
        TrialRecord(a, 1.0, space.bpw(a), "proposal", "") for a in who["finalists"]
    ]

    def finish(bank: Drawn) -> Drawn:
        again = replace(block.measured(bank.allocation, "in sequence"))
        return again if case.finalize and again.mean > bank.mean else bank

    Stacked.block = block
    # in the place where the module looks for it
    end.Contest = Stacked  # type: ignore[attr-defined]
    found = end.confirm(
        space,
        records,
        WithinBudget(space),
        evaluate=block.measured,  # type: ignore[arg-type]
        finish=finish,  # type: ignore[arg-type]
        rivals=lambda _: dict(zip((EVEN_MIX, ADDITIVE), who["rivals"], strict=True)),
        progress=lambda *_: None,
        seed=0,
    )

    def at(digest: str, weights: str | None) -> int:
        return block.columns[digest, weights]

    assert found.versus is not None
    assert found.best_uniform is not None
    winner = at(found.winner.allocation.digest, found.winner.finalized)
    uniform = at(found.best_uniform.digest, found.best_uniform.finalized)
    held: dict[str, tuple[int, Any]] = {"uniform": (uniform, found.versus)}
    held |= {
        each.name: (at(each.digest, each.finalized), each.versus)
        for each in found.rivals
    }
    plain = block.of_run([winner, *(row for row, _ in held.values())])
    told: dict[str, Any] = {
        "score": (found.score, truth[winner], plain.score(0)),
        "retained": (found.retained, truth[winner] / truth[-1], None),
    }
    for place, (kind, (row, gain)) in enumerate(held.items(), 1):
        told[kind] = (gain, truth[winner] - truth[row], plain.difference(0, place))
    return told


def cases(most: int, quick: bool) -> Iterator[dict[str, Any]]:
    """A row of the table for each case."""
    for seed, case in enumerate(CASES):
        runs = min(most, case.runs // 20 if quick else case.runs)
        yield {**vars(case), "runs": runs, **run(case, runs, seed)}


if __name__ == "__main__":
    command(__doc__, 4_000, OUT, cases)
