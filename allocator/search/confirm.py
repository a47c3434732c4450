"""The end of a search: finalists on the evaluation set, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.errors import NotReachedError
from allocator.core.records import (
    FrontMember,
    Interval,
    UniformResult,
)
from allocator.space.fronts import front
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
    winner's share of full precision's score. Where no uniform allocation that fits has
    a score there is none to compare to.
    """

    winner: Measured
    score: Interval
    retained: Interval
    versus: Interval | None
    best_uniform: UniformResult | None
    uniform: tuple[UniformResult, ...]
    full_precision: Interval
    details: tuple[tuple[str, float, float], ...]
    front: tuple[FrontMember, ...]


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
    uniform, finalists = with_scores(uniform, finalists)

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
    best = max(comparable(space, goal, rivals, winner), key=rank, default=None)
    done = {each.allocation.digest: each for each in rivals}
    uniform = [done.get(each.allocation.digest, each) for each in uniform]
    members = front_of([r for r in records if space.keeps_pins(r.allocation)])
    return _outcome(space, winner, best, uniform, full, members, seed, strata)


def with_scores(
    uniform: Sequence[Measured], finalists: Sequence[Measured]
) -> tuple[list[Measured], list[Measured]]:
    """Those that have one: of the others something was no finite number.

    Raises:
        NotReachedError: none of them has.
    """
    kept = [[m for m in own if m.failed is None] for own in (uniform, finalists)]
    if not any(kept):
        raise NotReachedError(
            "nothing that fits has a score: of all that was measured something is no "
            "finite number; allow a larger budget or more widths"
        )
    return kept[0], kept[1]


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
    best: Measured | None,
    uniform: Sequence[Measured],
    full: Measured,
    members: tuple[FrontMember, ...],
    seed: int,
    strata: Sequence[int],
) -> Outcome:
    """What was decided, with its intervals."""
    results, versus, rival = uniform_results(space, uniform), None, None
    if best is not None:
        gains = [a - b for a, b in zip(winner.values, best.values, strict=True)]
        versus, digest = bootstrap(gains, seed, strata), best.allocation.digest
        rival = next(each for each in results if each.digest == digest)
    return Outcome(
        winner=winner,
        score=bootstrap(winner.values, seed, strata),
        retained=_retained(winner, full, seed, strata),
        versus=versus,
        best_uniform=rival,
        uniform=results,
        full_precision=bootstrap(full.values, seed, strata),
        details=tuple(
            (name, value, full.details[name])
            for name, value in winner.details.items()
            if name in full.details
        ),
        front=members,
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


def front_of(records: Sequence[TrialRecord]) -> tuple[FrontMember, ...]:
    """Non-dominated allocations of everything measured in full on the search set."""
    kept = front([(record.bpw, record.score) for record in records])
    return tuple(
        FrontMember(records[i].allocation, records[i].bpw, records[i].score)
        for i in kept
    )
