"""The same search over a table of measurements: no model, every score read counts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, Allocation, Budget
from allocator.core.errors import BudgetError, DataError, SpecError
from allocator.core.plugins import load
from allocator.core.records import FrontMember
from allocator.core.study import check_options, typed_options
from allocator.explain.explanation import explain_rows
from allocator.search.narrowing import Narrowing
from allocator.space.fronts import front
from allocator.space.table import TableSpace, read_table
from allocator.strategies._base import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from allocator.strategies._base import Strategy

DEFAULT_STRATEGY = "surrogate"
OPTIONS = (
    *("score", "budget", "bpw", "trials", "seed", "strategy", "bits", "narrowing"),
)
# of the explanation, what a search prints nowhere else
EXPLANATION = ("interactions", "together", "allocation", "sentences")


def _silent(done: int, total: int) -> None:
    """Tell nobody how far it is."""
    del done, total


@dataclass(frozen=True)
class ReplayRequest:
    """What to replay.

    `score` and `bpw` name columns, `groups` those of bits (names or patterns; None:
    those named `*_bits`), `budget` is in bits per weight, and `trials` bounds the
    number of scores read; with `narrowing` groups that hardly matter stay as they are.
    """

    table: Path
    score: str
    budget: str
    bpw: str = "bpw"
    trials: int = 20
    seed: int = 0
    strategy: str = DEFAULT_STRATEGY
    groups: str | None = None
    narrowing: bool = True

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise SpecError(f"trials must be 1 or more, not {self.trials}")
        if self.seed < 0:
            raise SpecError(f"seed must be 0 or more, not {self.seed}")

    @property
    def bits(self) -> float:
        """The budget in bits per weight.

        Raises:
            BudgetError: not a positive number, or a size.
        """
        budget = Budget.parse(self.budget)
        if budget.unit != "bpw":
            raise BudgetError(
                f"budget {self.budget!r} is a size; a table knows bits per weight, "
                "such as 4.0"
            )
        return budget.limit


def replay_request(table: Path, given: Mapping[str, Any]) -> ReplayRequest:
    """What to replay, from options; `bits` are the columns of groups.

    Raises:
        SpecError: an option of the wrong type.
        UnknownNameError: an option that there is none of.
    """
    check_options(given, OPTIONS)
    lacking = [name for name in ("score", "budget") if name not in given]
    if lacking:
        raise SpecError(f"a replay needs --{' and --'.join(lacking)}")
    options = typed_options(given)
    return ReplayRequest(table, groups=options.pop("bits", None), **options)


class Oracle:
    """Reads scores, one row at a time, and counts.

    Args:
        space: rows that may be read.
        limit: scores that may be read in all.
    """

    def __init__(self, space: TableSpace, limit: int) -> None:
        self.space = space
        self.limit = limit
        self.scores: dict[str, float] = {}
        self.order: list[Allocation] = []

    @property
    def reads(self) -> int:
        """Scores read so far."""
        return len(self.order)

    def read(self, allocation: Allocation) -> float:
        """The score of a row that fits.

        Raises:
            DataError: the cell holds no finite number.
            SpecError: a row that does not fit or was read before, or no read is left.
        """
        if not self.space.fits(allocation) or allocation.digest in self.scores:
            raise SpecError(f"{allocation.digest} is no unread row that fits")
        if self.reads >= self.limit:
            raise SpecError(f"all {self.limit} reads are spent")
        row = self.space.row(allocation)
        try:
            value = float(row.score)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{self.space.table.name}, line {row.line}: the score {row.score!r} is "
                "not a finite number"
            )
        self.scores[allocation.digest] = value
        self.order.append(allocation)
        return value

    @property
    def known(self) -> Known:
        """What has been read, in the order of reading."""
        read = tuple((a, self.scores[a.digest]) for a in self.order)
        return Known(read, taken=frozenset(self.scores))


def read_rows(
    strategy: Strategy | Narrowing,
    oracle: Oracle,
    progress: Callable[[int, int], object] = _silent,
) -> float:
    """Read rows until the reads are spent or no row is left.

    The widest uniform row that fits comes first, then what the strategy proposes.

    Returns:
        Seconds that the strategy took.
    """
    space, spent = oracle.space, 0.0
    total = min(oracle.limit, len(space.rows))
    fitting = [a for a in space.alike_rows if space.fits(a)]
    if fitting:
        oracle.read(fitting[-1])
    while oracle.reads < total:
        progress(oracle.reads, total)
        started = time.perf_counter()
        found = strategy.ask(oracle.known)
        spent += time.perf_counter() - started
        if not found:
            break
        oracle.read(found[0].allocation)
    progress(oracle.reads, total)
    return spent


@dataclass(frozen=True)
class Replay:
    """The outcome of a replay: what was read, the best of it, and why it is so."""

    request: ReplayRequest
    space: TableSpace
    read: tuple[tuple[Allocation, float], ...]
    explained: Mapping[str, Any]
    seconds: tuple[tuple[str, float | None], ...]

    @property
    def best(self) -> tuple[Allocation, float]:
        """The highest score read; the smaller row of equals."""
        return max(self.read, key=lambda pair: (pair[1], -self.space.bpw(pair[0])))

    @property
    def front(self) -> tuple[FrontMember, ...]:
        """Non-dominated rows among those read."""
        points = [(self.space.bpw(a), score) for a, score in self.read]
        return tuple(
            FrontMember(self.read[i][0], points[i][0], points[i][1])
            for i in front(points)
        )

    def to_json(self) -> dict[str, Any]:
        """The object `--json` prints: the keys of a search, null where none applies."""
        scores = {a.digest: score for a, score in self.read}
        uniform = [self._uniform(a, scores) for a in self.space.alike_rows]
        full = self.space.full.digest
        return {
            "study": None,
            "storage": None,
            "model": None,
            "task": None,
            "metric": self.request.score,
            "higher_is_better": True,
            "scheme": None,
            "goal": "budget",
            "budget": {"bpw": self.space.budget, "scope": None},
            "pins": None,
            "full_precision": {
                "score": scores.get(full),
                "ci95": None,
                "bpw": next((u["bpw"] for u in uniform if u["bits"] == FULL), None),
                "details": {},
            },
            "uniform": uniform,
            "recommended": self._recommended(uniform),
            "front": [
                {"digest": m.allocation.digest, "bpw": m.bpw, "score": m.score}
                for m in self.front
            ],
            "importance": self.explained["importance"],
            "explanation": {key: self.explained[key] for key in EXPLANATION},
            "trials": {
                "complete": len(self.read),
                "pruned": 0,
                "failed": 0,
                "infeasible": 0,
            },
            "evaluated_samples": None,
            "evaluated_allocations": len(self.read),
            "rungs": [],
            "prefix": {"ran": None, "reused": None},
            "seconds": dict(self.seconds),
            "table": self._about(),
        }

    def _recommended(self, uniform: list[dict[str, Any]]) -> dict[str, Any]:
        allocation, score = self.best
        rivals = [each["score"] for each in uniform if each["score"] is not None]
        return {
            "digest": allocation.digest,
            "applied": None,
            "finalized": None,
            "allocation": bits_json(allocation),
            "bpw": self.space.bpw(allocation),
            "bpw_quantized": None,
            "score": score,
            "ci95": None,
            "retained": None,
            "details": {},
            "vs_best_uniform": {
                "difference": score - max(rivals) if rivals else None,
                "ci95": None,
            },
        }

    def _about(self) -> dict[str, Any]:
        """What the table offers: its name, rows, rows that fit and repeats."""
        table = self.space.table
        return {
            "name": table.name,
            "rows": len(table.rows),
            "fitting": len(self.space.rows),
            "repeats": table.repeats,
        }

    def _uniform(
        self, allocation: Allocation, scores: dict[str, float]
    ) -> dict[str, Any]:
        return {
            "bits": allocation.choices[0][1].bits,
            "method": None,
            "bpw": self.space.bpw(allocation),
            "score": scores.get(allocation.digest),
            "fits": self.space.fits(allocation),
            "finalized": None,
        }


def bits_json(allocation: Allocation) -> dict[str, dict[str, Any]]:
    """Bits alone: a table names no methods."""
    return {key: {"bits": choice.bits, "method": None} for key, choice in allocation}


def run(
    request: ReplayRequest,
    progress: Callable[[int, int], object] = _silent,
) -> Replay:
    """Replay a search.

    Args:
        request: what to replay.
        progress: told scores read and scores there will be.

    Raises:
        AllocateError: a table, budget or strategy that cannot be used; one sentence.
    """
    started = time.perf_counter()
    plugin = load("allocator.strategies", request.strategy, "strategy")
    budget = request.bits
    table = read_table(request.table, request.score, request.bpw, request.groups)
    space = TableSpace(table, budget)
    oracle = Oracle(space, request.trials)
    reading = time.perf_counter()
    proposer = plugin(space, request.seed)
    if request.narrowing:
        proposer = Narrowing(proposer)
    sampler = read_rows(proposer, oracle, progress)
    searched = time.perf_counter()
    read = oracle.known.measured
    told = explain_rows(space, read, request.score, request.seed)
    seconds = {
        "total": time.perf_counter() - started,
        "bank": None,
        "search": searched - reading,
        "sampler": sampler,
        "confirm": None,
    }
    return Replay(request, space, read, told, tuple(seconds.items()))
