"""The end of a search: finalists on the evaluation set, intervals, importance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allocator.core.records import (
    FrontMember,
    Importances,
    Interval,
    Share,
    UniformResult,
)
from allocator.pareto import front
from evals.interval import bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.records import TrialRecord
    from allocator.space import ModelSpace
    from surrogate.importance import Importance

FINALISTS = 5


@dataclass(frozen=True)
class Measured:
    """An allocation with its score of each evaluation sample.

    `details` are further figures of the same predictions, by name.
    """

    allocation: Allocation
    values: tuple[float, ...]
    applied: str
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Score on the evaluation set."""
        return sum(self.values) / len(self.values)


@dataclass(frozen=True)
class Outcome:
    """What the evaluation set decided.

    `details` are name, value of the winner, value of full precision.
    """

    winner: Measured
    score: Interval
    versus: Interval
    best_uniform: UniformResult
    uniform: tuple[UniformResult, ...]
    full_precision: Interval
    details: tuple[tuple[str, float, float], ...]
    front: tuple[FrontMember, ...]


def confirm(
    space: ModelSpace,
    records: Sequence[TrialRecord],
    evaluate: Callable[[Allocation], Measured],
    progress: Callable[[int, int], object],
    seed: int,
    strata: Sequence[int] = (),
) -> Outcome:
    """Choose among the best measured allocations and every uniform one that fits.

    The recommendation is the highest score on the full evaluation set, the smaller one
    of equals; so it is never worse than a uniform allocation of the same budget.
    `strata` are the numbers of samples of each task, for the intervals.
    """
    fitting = [r for r in records if space.fits(r.allocation)]
    fitting.sort(key=lambda record: (-record.score, record.bpw))
    finalists = []
    for number, record in enumerate(fitting[:FINALISTS]):
        progress(number, FINALISTS)
        finalists.append(evaluate(record.allocation))
    progress(FINALISTS, FINALISTS)
    uniform = [evaluate(a) for a in space.uniform if space.fits(a)]
    if space.fits(space.full):
        finalists.append(evaluate(space.full))

    def rank(measured: Measured) -> tuple[float, float]:
        return measured.mean, -space.bpw(measured.allocation)

    winner = max([*uniform, *finalists], key=rank)
    best = max(uniform, key=rank)
    gains = [a - b for a, b in zip(winner.values, best.values, strict=True)]
    results = uniform_results(space, uniform)
    digest = best.allocation.digest
    full = evaluate(space.full)
    return Outcome(
        winner=winner,
        score=bootstrap(winner.values, seed, strata),
        versus=bootstrap(gains, seed, strata),
        best_uniform=next(each for each in results if each.digest == digest),
        uniform=results,
        full_precision=bootstrap(full.values, seed, strata),
        details=tuple(
            (name, value, full.details[name])
            for name, value in winner.details.items()
            if name in full.details
        ),
        front=front_of(records),
    )


def uniform_results(
    space: ModelSpace, measured: Sequence[Measured]
) -> tuple[UniformResult, ...]:
    """Every width x method asked for, with its score where it fits."""
    scores = {each.allocation.digest: each.mean for each in measured}
    return tuple(
        UniformResult(
            choice,
            allocation.digest,
            space.bpw(allocation),
            scores.get(allocation.digest),
            space.fits(allocation),
        )
        for allocation in space.uniform
        for choice in [allocation.choices[0][1]]
    )


def front_of(records: Sequence[TrialRecord]) -> tuple[FrontMember, ...]:
    """Non-dominated allocations of everything measured in full on the search set."""
    kept = front([(record.bpw, record.score) for record in records])
    return tuple(
        FrontMember(records[i].allocation, records[i].bpw, records[i].score)
        for i in kept
    )


def importances(
    space: ModelSpace, records: Sequence[TrialRecord], seed: int
) -> Importances:
    """Consensus importance of components and groups over a study's trials."""
    from surrogate.features import bit_matrix, component_matrix
    from surrogate.importance import consensus

    keys = space.keys
    bits = bit_matrix(keys, [record.allocation for record in records])
    scores = [record.score for record in records]
    weights = [group.weights for group in space.spec.groups]
    names, table = component_matrix(keys, bits, weights)
    component = consensus(table, scores, names, seed=seed)
    group = consensus(bits, scores, keys, seed=seed)
    return Importances(
        _shares(component), _shares(group), component.reason, group.reason
    )


def _shares(found: Importance) -> tuple[tuple[str, Share], ...]:
    rows = zip(found.names, found.consensus, found.ci95, strict=True)
    return tuple(
        (name, Share(float(share), float(low), float(high)))
        for name, share, (low, high) in rows
    )
