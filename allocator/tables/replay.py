"""The same search over a table of measurements: no model, every score read counts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.account import no_account
from allocator.core.allocation import FULL, Budget
from allocator.core.errors import BudgetError, DataError, SpecError
from allocator.core.options import typed_options
from allocator.core.plugins import load
from allocator.core.records import RIVALS, FrontMember
from allocator.core.study import check_options
from allocator.explain.explanation import explain_rows, left_out
from allocator.search.narrowing import Narrowing
from allocator.space.directions import best, is_higher_better
from allocator.space.fronts import front
from allocator.space.table import TableSpace, read_table
from allocator.tables.oracle import Oracle, read_rows, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from allocator.core.allocation import Allocation

DEFAULT_STRATEGY = "surrogate"
OPTIONS = (
    *("score", "budget", "bpw", "trials", "seed", "strategy", "bits", "narrowing"),
    "minimize",
)
# of the explanation, what a search prints nowhere else
EXPLANATION = ("interactions", "together", "allocation", "sentences")
# of a rival: it would take the sizes of groups, and what each loses alone
RIVAL = ("name", "digest", "bpw", "score", "finalized", "tuned", "fits")


@dataclass(frozen=True)
class ReplayRequest:
    """What to replay.

    `score` and `bpw` name columns, `groups` those of bits (names or patterns; None:
    those named `*_bits`), `budget` is in bits per weight, and `trials` bounds the
    number of scores read; with `narrowing` groups that hardly matter stay as they are.
    `minimize` says whether a lower score is the better one, None goes by its name.
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
    minimize: bool | None = None

    def __post_init__(self) -> None:
        if self.score == self.bpw:
            raise SpecError(f"--score and --bpw both name {self.score!r}")
        if self.trials < 1:
            raise SpecError(f"trials must be 1 or more, not {self.trials}")
        if self.seed < 0:
            raise SpecError(f"seed must be 0 or more, not {self.seed}")

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is the better one."""
        return is_higher_better(self.score, self.minimize)

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


@dataclass(frozen=True)
class Replay:
    """The outcome of a replay: what was read, the best of it, and why it is so.

    `failed` are digests of rows that were read too, whose measurement failed.
    """

    request: ReplayRequest
    space: TableSpace
    read: tuple[tuple[Allocation, float], ...]
    explained: Mapping[str, Any]
    seconds: tuple[tuple[str, float | None], ...]
    failed: frozenset[str] = frozenset()

    @property
    def best(self) -> tuple[Allocation, float]:
        """The best score read; the smaller row of equals."""
        return self.read[best(self._points, self.request.higher_is_better)]

    @property
    def front(self) -> tuple[FrontMember, ...]:
        """Non-dominated rows among those read."""
        points, sign = self._points, 1 if self.request.higher_is_better else -1
        return tuple(
            FrontMember(self.read[i][0], points[i][0], points[i][1])
            for i in front([(bpw, sign * score) for bpw, score in points])
        )

    @property
    def _points(self) -> list[tuple[float, float]]:
        return [(self.space.bpw(a), score) for a, score in self.read]

    @property
    def notes(self) -> list[str]:
        """What was guessed or left out, and what looks odd, in sentences."""
        notes: list[str] = self.explained["notes"]
        return notes

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
            "higher_is_better": self.request.higher_is_better,
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
            "rivals": [dict.fromkeys(RIVAL) | {"name": name} for name in RIVALS],
            "finalists": [],
            "recommended": self._recommended(uniform),
            "front": [member.to_json() for member in self.front],
            "importance": self.explained["importance"],
            "explanation": {key: self.explained[key] for key in EXPLANATION},
            "trials": {
                "complete": len(self.read),
                "pruned": 0,
                "failed": len(self.failed),
                "infeasible": 0,
            },
            "evaluated_samples": None,
            "evaluated_allocations": len(self.read),
            "rungs": [],
            "prefix": {"ran": None, "reused": None},
            "cost": no_account(),
            "seconds": dict(self.seconds),
            "table": self._about(),
        }

    def _recommended(self, uniform: list[dict[str, Any]]) -> dict[str, Any]:
        allocation, score = self.best
        rivals = [each["score"] for each in uniform if each["score"] is not None]
        rival = max if self.request.higher_is_better else min
        return {
            "digest": allocation.digest,
            "applied": None,
            "finalized": None,
            "tuned": False,
            "allocation": bits_json(allocation),
            "layers": {},
            "bpw": self.space.bpw(allocation),
            "bpw_quantized": None,
            "score": score,
            "ci95": None,
            "retained": None,
            "details": {},
            "divergence": None,
            "vs_best_uniform": {
                "difference": score - rival(rivals) if rivals else None,
                "ci95": None,
            },
            **{f"vs_{name}": dict.fromkeys(("difference", "ci95")) for name in RIVALS},
        }

    def _about(self) -> dict[str, Any]:
        """What the table offers: its name, rows, rows that fit, repeats and notes."""
        table = self.space.table
        return {
            "name": table.name,
            "rows": len(table.rows),
            "fitting": len(self.space.rows),
            "repeats": table.repeats,
            "notes": self.notes,
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
            "failed": allocation.digest in self.failed,
            "finalized": None,
            "tuned": False,
        }


def bits_json(allocation: Allocation) -> dict[str, dict[str, Any]]:
    """Bits alone: a table names no methods."""
    return {key: {"bits": choice.bits, "method": None} for key, choice in allocation}


def run(
    request: ReplayRequest,
    progress: Callable[[int, int], object] = silent,
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
    oracle = Oracle(space, request.trials, request.higher_is_better, request.score)
    reading = time.perf_counter()
    proposer = plugin(space, request.seed)
    if request.narrowing:
        proposer = Narrowing(proposer)
    sampler = read_rows(proposer, oracle, progress)
    searched = time.perf_counter()
    read, failed = oracle.read_so_far, oracle.failed
    if not read:
        raise DataError(
            f"none of {len(failed)} scores read of {table.name} is a finite number"
        )
    told = explain_rows(space, read, request.score, request.seed, request.minimize)
    seconds = {
        "total": time.perf_counter() - started,
        "bank": None,
        "search": searched - reading,
        "sampler": sampler,
        "confirm": None,
    }
    told["notes"] += left_out([space.row(each).line for each in failed])
    gone = frozenset(each.digest for each in failed)
    return Replay(request, space, read, told, tuple(seconds.items()), gone)
