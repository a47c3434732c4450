"""The end of a search: finalists on the evaluation set, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.records import Interval, UniformResult
from evals.interval import bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.records import TrialRecord
    from allocator.search.goals import Goal
    from allocator.search.measured import Measured
    from allocator.space.model import ModelSpace


@dataclass(frozen=True)
class Outcome:
    """What the evaluation set decided.

    `details` are name, value of the winner, value of full precision; `retained` is the
    winner's share of full precision's score.
    """

    winner: Measured
    score: Interval
    retained: Interval
    versus: Interval
    best_uniform: UniformResult
    uniform: tuple[UniformResult, ...]
    full_precision: Interval
    details: tuple[tuple[str, float, float], ...]


def confirm(  # noqa: PLR0913, each is what one part of the search gives
    space: ModelSpace,
    records: Sequence[TrialRecord],
    goal: Goal,
    *,
    evaluate: Callable[[Allocation], Measured],
    finish: Callable[[Measured], Measured],
    progress: Callable[[int, int], object],
    seed: int,
    strata: Sequence[int] = (),
) -> Outcome:
    """Choose among a goal's finalists and every uniform allocation that fits.

    The choice is made on the full evaluation set; so what is recommended is never worse
    than a uniform allocation. `finish` may better what was measured: it is done to the
    winner and to the best uniform allocation of each method alike, before they are
    compared. `strata` are the numbers of samples of each task, for the intervals.

    Raises:
        NotReachedError: nothing measured does what the goal asks.
    """
    finalists = []
    listed = goal.finalists(records)
    for number, record in enumerate(listed):
        progress(number, len(listed))
        finalists.append(evaluate(record.allocation))
    progress(len(listed), len(listed))
    uniform = [evaluate(a) for a in space.uniform if space.fits(a)]
    full = evaluate(space.full)
    if space.fits(space.full):
        finalists.append(full)

    rank = _rank(space)
    chosen = goal.choose([*uniform, *finalists], full)
    rivals = comparable(space, goal, uniform, chosen)
    rivals = [finish(each) for each in _best_of_methods(space, rivals)]
    winner = finish(chosen)
    if goal.kind == "front":
        # a knee among so few says nothing
        winner = max([winner, *rivals], key=rank)
    else:
        winner = goal.choose([winner, *rivals], full)
    best = max(comparable(space, goal, rivals, winner), key=rank)
    done = {each.allocation.digest: each for each in rivals}
    uniform = [done.get(each.allocation.digest, each) for each in uniform]
    return _outcome(space, winner, best, uniform, full, seed, strata)


def comparable(
    space: ModelSpace, goal: Goal, uniform: Sequence[Measured], measured: Measured
) -> Sequence[Measured]:
    """Uniform allocations that one is held against: by no budget, those no larger."""
    if goal.kind == "budget":
        return uniform
    size = space.bpw(measured.allocation)
    return [each for each in uniform if space.bpw(each.allocation) <= size]


def _rank(space: ModelSpace) -> Callable[[Measured], tuple[float, float]]:
    """By score, the smaller one of equals."""
    return lambda measured: (measured.mean, -space.bpw(measured.allocation))


def _best_of_methods(space: ModelSpace, uniform: Sequence[Measured]) -> list[Measured]:
    """Of uniform allocations the best by each method."""
    ranked = sorted(uniform, key=_rank(space))
    return list({space.uniform_choice(m.allocation).method: m for m in ranked}.values())


def _outcome(  # noqa: PLR0913, PLR0917, all that was measured
    space: ModelSpace,
    winner: Measured,
    best: Measured,
    uniform: Sequence[Measured],
    full: Measured,
    seed: int,
    strata: Sequence[int],
) -> Outcome:
    """What was decided, with its intervals."""
    gains = [a - b for a, b in zip(winner.values, best.values, strict=True)]
    results = uniform_results(space, uniform)
    digest = best.allocation.digest
    return Outcome(
        winner=winner,
        score=bootstrap(winner.values, seed, strata),
        retained=_retained(winner, full, seed, strata),
        versus=bootstrap(gains, seed, strata),
        best_uniform=next(each for each in results if each.digest == digest),
        uniform=results,
        full_precision=bootstrap(full.values, seed, strata),
        details=tuple(
            (name, value, full.details[name])
            for name, value in winner.details.items()
            if name in full.details
        ),
    )


def _retained(
    winner: Measured, full: Measured, seed: int, strata: Sequence[int]
) -> Interval:
    """Share of the full-precision score, which the interval takes as given."""
    scale = full.mean or 1.0
    shares = [
        1 + (a - b) / scale for a, b in zip(winner.values, full.values, strict=True)
    ]
    return bootstrap(shares, seed, strata)


def uniform_results(
    space: ModelSpace, measured: Sequence[Measured]
) -> tuple[UniformResult, ...]:
    """Every width x method asked for, with its score where it fits."""
    found = {each.allocation.digest: each for each in measured}
    results = []
    for allocation in space.uniform:
        own = found.get(allocation.digest)
        choice = space.uniform_choice(allocation)
        results.append(
            UniformResult(
                choice,
                allocation.digest,
                space.bpw(allocation),
                own.mean if own else None,
                space.fits(allocation),
                own.finalized if own else None,
                allocation != space.alike(choice),
            )
        )
    return tuple(results)
