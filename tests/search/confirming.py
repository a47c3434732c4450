"""The end of a search without a model: what an allocation scores is in a table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.records import TrialRecord
from allocator.search.confirm import confirm
from allocator.search.goals import WithinBudget
from allocator.search.measured import Measured
from allocator.space.model import ModelSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from allocator.core.spec import ModelSpec
    from allocator.search.confirm import Outcome
    from allocator.search.goals import Goal

BOTH = tuple(Choice(bits, method) for bits in (2, 4, 8) for method in ("gptq", "awq"))


def roomy_space(spec: ModelSpec) -> ModelSpace:
    """Two methods, and room for everything."""
    return ModelSpace(spec, Scheme(), BOTH, Budget(16.0))


def record(space: ModelSpace, allocation: Allocation, score: float) -> TrialRecord:
    return TrialRecord(allocation, score, space.bpw(allocation), "proposal", "")


def evaluation(
    scores: dict[str, float], default: float = 0.0
) -> tuple[Callable[[Allocation], Measured], list[str]]:
    """Looks scores up, and notes what was asked."""
    asked: list[str] = []

    def evaluate(allocation: Allocation) -> Measured:
        asked.append(allocation.digest)
        mean = scores.get(allocation.digest, default)
        # as many samples above the mean as below it, enough to be sure of shares
        return Measured(allocation, (mean - 1, mean + 1) * 500, allocation.digest)

    return evaluate, asked


def outcome(
    space: ModelSpace,
    records: list[TrialRecord],
    scores: dict[str, float],
    finish: Callable[[Measured], Measured] = lambda measured: measured,
    goal: Goal | None = None,
    rivals: Callable[[ModelSpace], dict[str, Allocation]] = lambda _: {},
) -> tuple[Outcome, list[str]]:
    """What the evaluation set decides, and what was evaluated."""
    evaluate, asked = evaluation(scores)
    found = confirm(
        space,
        records,
        goal or WithinBudget(space),
        evaluate=evaluate,
        finish=finish,
        rivals=rivals,
        progress=lambda *_: None,
        seed=0,
    )
    return found, asked


def uniform_of(space: ModelSpace, bits: int, method: str) -> Allocation:
    return space.alike(Choice(bits, method))


class Finish:
    """Adds points to what is finished, and notes it."""

    def __init__(self, gains: dict[str, float]) -> None:
        self.gains = gains
        self.asked: list[str] = []

    def __call__(self, measured: Measured) -> Measured:
        self.asked.append(measured.allocation.digest)
        gain = self.gains.get(measured.allocation.digest, 0.0)
        if gain <= 0:
            return measured
        values = tuple(value + gain for value in measured.values)
        return replace(measured, values=values, finalized="in sequence")
