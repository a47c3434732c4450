"""What a little more memory would buy, and what a little less would cost first.

Both are predictions of trees fitted to what was measured and looked at; nothing new is
measured for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surrogate.features import features
from surrogate.model import MonotoneTrees

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space

# bits per weight that are added or taken away
STEP = 0.1
# trees that learned from fewer say nothing about single groups
FEWEST = 12
# predicted gains up to this are none, as trees add in single precision: in the unit of
# the scores, or of their range where that is below 1
SLIGHT = 1e-6
SLACK = 1e-9  # bits per weight


@dataclass(frozen=True)
class Move:
    """One group a level wider or narrower, in bits per weight and predicted score."""

    key: str
    before: Choice
    after: Choice
    bpw: float
    score: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "group": self.key,
            "from": _label(self.before),
            "to": _label(self.after),
            "bpw": self.bpw,
            "score": self.score,
        }


def _label(choice: Choice) -> str:
    return str(choice).replace("/", " ").removesuffix(" measured")


class Neighbours:
    """Allocations one level away from others, and what trees predict of them.

    Args:
        space: choices and sizes; its budget does not matter here.
        scored: allocations with their scores, what the trees learn from.
        damage: the prior of a search, None where there is none.
        seed: of the trees.
        higher_is_better: whether a larger score is the better one.
    """

    def __init__(
        self,
        space: Space,
        scored: Sequence[tuple[Allocation, float]],
        damage: Mapping[tuple[str, Choice], float] | None = None,
        seed: int = 0,
        higher_is_better: bool = True,
    ) -> None:
        self.space = space
        self.scored = scored
        self.sign = 1 if higher_is_better else -1
        values = [score for _, score in scored] or [0.0]
        self.slight = SLIGHT * min(1.0, max(values) - min(values))
        self.damage = damage
        self.methods = sorted({c.method for c in space.choices if c.method})
        self._trees = MonotoneTrees(seed=seed)
        if self.enough:
            allocations, scores = zip(*scored, strict=True)
            self._trees.fit(self._features(allocations), scores, higher_is_better)

    @property
    def enough(self) -> bool:
        """Whether there is enough to learn from."""
        return len(self.scored) >= max(FEWEST, len(self.space.keys))

    def _features(self, allocations: Sequence[Allocation]) -> Any:
        damage = None
        if self.damage:
            damage = {(k, c.bits, c.method): v for (k, c), v in self.damage.items()}
        return features(self.space.keys, allocations, damage, self.methods)

    def predict(self, allocations: Sequence[Allocation]) -> NDArray[np.float64]:
        """Predicted scores."""
        return self._trees.predict(self._features(allocations))[0]

    def moves(self, allocation: Allocation, *, wider: bool) -> list[Move]:
        """Every group one level wider, or narrower, by each method of that width."""
        found = []
        for key, own in allocation:
            levels = self.space.levels[key]
            beyond = [b for b in levels if (b > own.bits if wider else b < own.bits)]
            if beyond:
                level = min(beyond) if wider else max(beyond)
                found += [(key, own, choice) for choice in levels[level]]
        if not found:
            return []
        after = [allocation.replace({key: choice}) for key, _, choice in found]
        before, *scores = self.predict([allocation, *after]).tolist()
        sizes = [self.space.bpw(each) - self.space.bpw(allocation) for each in after]
        return [
            Move(*move, size, score - before)
            for move, size, score in zip(found, sizes, scores, strict=True)
        ]

    def more(self, allocation: Allocation, bpw: float = STEP) -> dict[str, Any]:
        """What up to `bpw` more would buy: the best widening, again and again."""
        if not self.enough:
            return _nothing(bpw, self._too_few)
        left, steps, now = bpw, list[Move](), allocation
        reason = "No group can be widened by so little."
        while moves := [
            move for move in self.moves(now, wider=True) if move.bpw <= left + SLACK
        ]:
            best = max(moves, key=lambda move: (self.sign * move.score, -move.bpw))
            if self.sign * best.score <= self.slight:
                reason = "No widening that fits is predicted to gain anything."
                break
            steps.append(best)
            left, now = left - best.bpw, now.replace({best.key: best.after})
        return _told(bpw, steps, reason)

    def less(self, allocation: Allocation, bpw: float = STEP) -> dict[str, Any]:
        """What is lost first where `bpw` has to go: the least loss a byte, repeated."""
        if not self.enough:
            return _nothing(-bpw, self._too_few)
        freed, steps, now = 0.0, list[Move](), allocation
        while freed < bpw - SLACK and (
            moves := [m for m in self.moves(now, wider=False) if m.bpw < 0]
        ):
            best = max(moves, key=lambda m: (self.sign * m.score / -m.bpw, -m.bpw))
            steps.append(best)
            freed, now = freed - best.bpw, now.replace({best.key: best.after})
        return _told(-bpw, steps, "Every group is at its narrowest.")

    @property
    def _too_few(self) -> str:
        return (
            f"{len(self.scored)} scored allocations are too few to predict others from."
        )


def _told(bpw: float, steps: list[Move], reason: str) -> dict[str, Any]:
    if not steps:
        return _nothing(bpw, reason)
    return {"bpw": bpw, "steps": [move.to_json() for move in steps], "reason": None}


def _nothing(bpw: float, reason: str) -> dict[str, Any]:
    return {"bpw": bpw, "steps": [], "reason": reason}
