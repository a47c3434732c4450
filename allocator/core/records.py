"""What a trial leaves behind, and what comes out of a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.account import no_account
from allocator.core.allocation import FULL
from allocator.core.pins import NO_PINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.allocation import Allocation, Choice, Scheme
    from allocator.core.pins import Pins
    from allocator.core.told import Finalist, RungReport

# rivals of the same stored size, by kind
EVEN_MIX, ADDITIVE = "even_mix", "additive"
RIVALS = {EVEN_MIX: "even mix", ADDITIVE: "additive optimum"}
# of single linears, by the table that they are the least sum of
LINEAR_ADDITIVE, LINEAR_FISHER = "linear_additive", "linear_fisher"
LINEAR_ERROR = "linear_error"
LINEAR_RIVALS = {
    LINEAR_FISHER: "gradient-weighted optimum of single linears",
    LINEAR_ERROR: "output-error optimum of single linears",
    LINEAR_ADDITIVE: "additive optimum of single linears",
}
# kinds of trials that every search measures, whatever its strategy
BASELINES = ("full", "uniform", *RIVALS)


def rival_name(kind: str) -> str:
    """A rival in words; what has none, such as a candidate's file, is called so."""
    return {**RIVALS, **LINEAR_RIVALS}.get(kind, kind)


@dataclass(frozen=True)
class TrialRecord:
    """One measured allocation.

    `kind` is one of `BASELINES`, or "proposal"; `applied` is the digest of the
    cells that were really in place; `budget` the name of the goal that a proposal was
    made for, and `limit` the bits per weight within which it was made. A `control` is a
    proposal that no look chose.
    """

    allocation: Allocation
    score: float
    bpw: float
    kind: str
    applied: str
    budget: str | None = None
    limit: float | None = None
    control: bool = False


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def ci95(self) -> list[float]:
        """The interval as a pair."""
        return [self.low, self.high]


@dataclass(frozen=True)
class SureShare:
    """A share of full precision's score, and how probably at least that is kept."""

    share: float
    probability: float


@dataclass(frozen=True)
class TokenDivergence:
    """Mean KL(full precision || quantized) of each token that full precision replies.

    In `nats`, of so many `tokens`, the ends of replies among them, of so many `samples`
    of the evaluation set.
    """

    nats: float
    tokens: int
    samples: int


@dataclass(frozen=True)
class UniformResult:
    """A uniform allocation; the score is None where it does not fit the budget.

    `finalized` is the digest of its weights where those are not the bank's, `tuned`
    whether their rounding was learned; with `pinned`, some groups have what pins ask
    instead of the `choice`. It was scored on `samples`: where those are not all, the
    score is the recommendation's, less what that gains on the samples both have.
    """

    choice: Choice
    digest: str
    bpw: float
    score: float | None
    fits: bool
    finalized: str | None = None
    pinned: bool = False
    tuned: bool = False
    samples: int = 0

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"{self.choice} everywhere{' else' if self.pinned else ''}"


@dataclass(frozen=True)
class RivalResult:
    """One of `RIVALS`, no larger than the recommendation or its budget, by its `name`.

    `versus` is what the recommendation gains over it, `finalized`, `tuned` and
    `samples` are as in `UniformResult`; it has no score where something of it was no
    finite number.
    """

    name: str
    digest: str
    bpw: float
    score: float | None
    fits: bool
    versus: Interval | None
    finalized: str | None = None
    tuned: bool = False
    samples: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, without what was gained over it."""
        return {key: own for key, own in vars(self).items() if key != "versus"}


@dataclass(frozen=True)
class FrontMember:
    """A non-dominated allocation.

    `samples` says where its score is from: "evaluation", or "search, corrected" for
    having been chosen there; None where there is one set alone, as in a table.
    """

    allocation: Allocation
    bpw: float
    score: float
    samples: str | None = None
    ci95: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "digest": self.allocation.digest,
            "bpw": self.bpw,
            "score": self.score,
            "ci95": self.ci95 and list(self.ci95),
            "samples": self.samples,
        }


@dataclass(frozen=True)
class Recommendation:
    """The outcome of a search, measured on the evaluation set.

    `importance` is plain data, as `allocator.explain.importance` gives it; `details`
    are further figures: name, value, value of full precision; `goal` is "budget",
    "front" or "min-score"; `retained` the share of the full-precision score, `sure` the
    same with the probability that was asked for;
    `finalized` the digest of weights that were quantized once more in sequence, and
    `tuned` says that their rounding was learned; `finalists` are what was compared.
    It and full precision were scored on all `samples` of the evaluation set.
    `divergence` is how far its tokens are from full precision's, of what replies.
    `evaluated_samples` counts every sample that any of `evaluated_allocations` was run
    on, baselines and probes included; `pins` are what was asked of single groups;
    `prefix` the samples times blocks that ran in looks, probes and in front of replies,
    and those whose outcome was kept; `cost` what it took (`allocator.core.account`).
    """

    study: str
    storage: str
    model: str
    task: str
    metric: str
    scheme: Scheme
    budget_bpw: float
    scope: str
    full_precision: Interval
    uniform: tuple[UniformResult, ...]
    allocation: Allocation
    applied: str
    bpw: float
    bpw_quantized: float
    score: Interval
    versus: Interval | None
    best_uniform: UniformResult | None
    front: tuple[FrontMember, ...]
    importance: Mapping[str, Any]
    complete: int
    pruned: int
    failed: int
    infeasible: int
    evaluated_samples: int
    seconds: tuple[tuple[str, float], ...]
    details: tuple[tuple[str, float, float], ...] = ()
    goal: str = "budget"
    retained: Interval | None = None
    sure: SureShare | None = None
    finalized: str | None = None
    evaluated_allocations: int = 0
    rungs: tuple[RungReport, ...] = ()
    prefix: tuple[int, int] = (0, 0)
    pins: Pins = NO_PINS
    rivals: tuple[RivalResult, ...] = ()
    tuned: bool = False
    finalists: tuple[Finalist, ...] = ()
    samples: int = 0
    cost: Mapping[str, Any] = field(default_factory=no_account)
    divergence: TokenDivergence | None = None

    @property
    def is_uniform(self) -> bool:
        """Whether nothing better than a uniform allocation was found."""
        rival = self.best_uniform
        return rival is not None and self.allocation.digest == rival.digest

    def to_json(self) -> dict[str, Any]:
        """The object `--json` prints; its keys are part of the interface."""
        return {
            "study": self.study,
            "storage": self.storage,
            "model": self.model,
            "task": self.task,
            "metric": self.metric,
            "higher_is_better": True,
            "scheme": self.scheme.to_json(),
            "goal": self.goal,
            "budget": {"bpw": self.budget_bpw, "scope": self.scope},
            "pins": self.pins.to_json(),
            "full_precision": {
                "score": self.full_precision.mean,
                "ci95": self.full_precision.ci95,
                "bpw": float(FULL),
                "samples": self.samples,
                "details": {name: full for name, _, full in self.details},
            },
            "uniform": [_uniform_json(each) for each in self.uniform],
            "rivals": [each.to_json() for each in self.rivals],
            "recommended": self._recommended_json(),
            "finalists": [each.to_json() for each in self.finalists],
            "front": [member.to_json() for member in self.front],
            "importance": dict(self.importance),
            "trials": {
                "complete": self.complete,
                "pruned": self.pruned,
                "failed": self.failed,
                "infeasible": self.infeasible,
            },
            "evaluated_samples": self.evaluated_samples,
            "evaluated_allocations": self.evaluated_allocations,
            "rungs": [rung.to_json() for rung in self.rungs],
            "prefix": {"ran": self.prefix[0], "reused": self.prefix[1]},
            "cost": dict(self.cost),
            "seconds": dict(self.seconds),
        }

    def _recommended_json(self) -> dict[str, Any]:
        over = {each.name: each.versus for each in self.rivals}
        return {
            "digest": self.allocation.digest,
            "applied": self.applied,
            "finalized": self.finalized,
            "tuned": self.tuned,
            "allocation": self.allocation.to_json(),
            "layers": self.allocation.layers_json(),
            "bpw": self.bpw,
            "bpw_quantized": self.bpw_quantized,
            "score": self.score.mean,
            "ci95": self.score.ci95,
            "samples": self.samples,
            "retained": _retained_json(self.retained, self.sure),
            "details": {name: value for name, value, _ in self.details},
            "divergence": self.divergence and asdict(self.divergence),
            "vs_best_uniform": _versus_json(self.versus),
            "vs_even_mix": _versus_json(over.get(EVEN_MIX)),
            "vs_additive": _versus_json(over.get(ADDITIVE)),
        }


def _versus_json(gain: Interval | None) -> dict[str, Any]:
    """A gain with its interval; nulls where there is nothing to compare with."""
    return {
        "difference": gain and gain.mean,
        "ci95": gain and gain.ci95,
    }


def _retained_json(
    retained: Interval | None, sure: SureShare | None
) -> dict[str, Any] | None:
    if retained is None:
        return None
    return {
        "share": retained.mean,
        "ci95": retained.ci95,
        "sure": None if sure is None else asdict(sure),
    }


def _uniform_json(each: UniformResult) -> dict[str, Any]:
    return {
        "bits": each.choice.bits,
        "method": each.choice.method,
        "bpw": each.bpw,
        "score": each.score,
        "fits": each.fits,
        "finalized": each.finalized,
        "tuned": each.tuned,
        "digest": each.digest,
        "pinned": each.pinned,
        "samples": each.samples,
    }
