"""What a search tells beside its outcome: finalists, and what looks were worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finalist:
    """What might have been recommended, as it scored on the search set.

    `kinds` say what it is (measured, uniform, a rival's name, refined), `scores` are
    means over `samples` samples under weights of the bank, finalized or tuned ones, and
    `weights` are those that these chose. Fewer samples than the others have: it stopped
    there, since it could not be the best any more. On `evaluated` samples of the
    evaluation set it was scored under these.
    """

    digest: str
    kinds: tuple[str, ...]
    bpw: float
    samples: int
    scores: tuple[tuple[str, float], ...]
    weights: str
    evaluated: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "kinds": list(self.kinds), "scores": dict(self.scores)}


@dataclass(frozen=True)
class RungReport:
    """How well something cheap predicted the full score: a rung's looks, or the prior.

    `spearman` is the rank correlation within a budget over the `count` proposals and
    candidates that have both, as allocations drawn by chance would show it; above 0
    where a better look means a better score, None with fewer than two values. `ci95` is
    its interval, None with too few; `controls` of them were drawn by chance. What is
    `predicted` is the score under weights of the "bank", "finalized" or "tuned" ones.
    """

    kind: str
    samples: int
    count: int
    spearman: float | None
    ci95: tuple[float, float] | None = None
    controls: int = 0
    predicted: str = "bank"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "ci95": self.ci95 and list(self.ci95)}
