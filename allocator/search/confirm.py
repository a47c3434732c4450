"""The end of a search: finalists on the evaluation set, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.errors import NotReachedError
from allocator.core.records import (
    RIVALS,
    Interval,
    RivalResult,
    SureShare,
    TokenDivergence,
    UniformResult,
)
from allocator.search.contest import Contest
from allocator.search.keep_score import KeepScore
from allocator.space.model import of_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.records import TrialRecord
    from allocator.core.told import Finalist, RungReport
    from allocator.search.goals import Goal
    from allocator.search.measured import Measured
    from allocator.space.model import ModelSpace


@dataclass(frozen=True)
class Outcome:
    """What the evaluation set decided.

    `details` are name, value of the winner, value of full precision; `retained` is the
    winner's share of full precision's score, `sure` what it has to be sure of. Where no
    uniform allocation that fits has a score there is none to compare to. `divergence`
    is that of the winner's tokens.
    """

    winner: Measured
    score: Interval
    retained: Interval
    sure: SureShare | None
    versus: Interval | None
    best_uniform: UniformResult | None
    uniform: tuple[UniformResult, ...]
    rivals: tuple[RivalResult, ...]
    full_precision: Interval
    details: tuple[tuple[str, float, float], ...]
    finalists: tuple[Finalist, ...] = ()
    fidelities: tuple[RungReport, ...] = ()
    divergence: TokenDivergence | None = None


@dataclass(frozen=True)
class Beside:
    """What a winner is held against, finished: no larger than the budget, or than it.

    `fitting` are all uniform allocations, as the bank has them, `uniform` the best of
    each method; `rivals` are those of `allocator.core.records.RIVALS`, by kind.
    """

    fitting: Sequence[Measured]
    uniform: Sequence[Measured]
    rivals: Mapping[str, Measured]


def confirm(  # noqa: PLR0913, each is what one part of the search gives
    space: ModelSpace,
    records: Sequence[TrialRecord],
    goal: Goal,
    *,
    evaluate: Callable[[Allocation], Measured],
    finish: Callable[[Measured], Measured],
    rivals: Callable[[ModelSpace], Mapping[str, Allocation]],
    progress: Callable[[int, int], object],
    seed: int,
    strata: Sequence[int] = (),
    most: int | None = None,
) -> Outcome:
    """Choose among a goal's finalists, the uniform allocations that fit, and rivals.

    The choice is made on the full evaluation set; so what is recommended is never worse
    than a uniform allocation, or than one of the `rivals` within a space. `finish` may
    better what was measured: it is done, once each, to the winner, to the best uniform
    allocation of each method and to the rivals alike, before they are compared.
    `strata` are the numbers of samples of each task, for the intervals; `most` how many
    finalists there is time for, None for all.

    Raises:
        NotReachedError: nothing measured does what the goal asks.
    """
    full = evaluate(space.full)
    contest = Contest(goal, full, evaluate, finish, seed, strata)
    finalists = _measured(contest, finalists_of(goal, records, most), progress)
    uniform = [contest.measured(a) for a in space.uniform if space.fits(a)]
    if space.fits(space.full):
        finalists.append(contest.note(full))
    uniform, finalists = with_scores(uniform), with_scores(finalists)
    check_any([*uniform, *finalists])

    def beside(winner: Measured) -> Beside:
        is_given = goal.kind == "budget"
        inside = space if is_given else of_size(space, winner.allocation)
        fitting = [each for each in uniform if inside.fits(each.allocation)]
        return Beside(
            fitting,
            [contest.finished(each) for each in _best_of_methods(space, fitting)],
            {
                kind: contest.finished(contest.measured(allocation))
                for kind, allocation in rivals(inside).items()
            },
        )

    chosen = contest.choose(_surest_first(records, [*uniform, *finalists]))
    winner, held = _settled(space, goal, chosen, full, beside)
    return outcome_of(space, winner, held, uniform, contest)


def _measured(
    contest: Contest,
    finalists: Sequence[TrialRecord],
    progress: Callable[[int, int], object],
) -> list[Measured]:
    """Finalists on the evaluation set."""
    found = []
    for number, record in enumerate(finalists):
        progress(number, len(finalists))
        found.append(contest.measured(record.allocation))
    progress(len(finalists), len(finalists))
    return found


def check_any(measured: Sequence[Measured]) -> None:
    """Refuse to go on where nothing has a score.

    Raises:
        NotReachedError: nothing has.
    """
    if not measured:
        raise NotReachedError(
            "nothing that fits has a score: of all that was measured something is no "
            "finite number; allow a larger budget or more widths"
        )


def _settled(
    space: ModelSpace,
    goal: Goal,
    winner: Measured,
    full: Measured,
    beside: Callable[[Measured], Beside],
) -> tuple[Measured, Beside]:
    """The winner that nothing it is held against beats, and what that was."""
    while True:
        held = beside(winner)
        others = with_scores([*held.uniform, *held.rivals.values()])
        field = [winner, *sorted(others, key=_rank(space), reverse=True)]
        if goal.kind == "front":
            # a knee among so few says nothing
            better = max(field, key=_rank(space))
        else:
            better = goal.choose(field, full)
        if better.allocation == winner.allocation:
            return winner, held
        # a smaller one has others beside it; each time it scores more, or is smaller
        winner = better


def finalists_of(
    goal: Goal, records: Sequence[TrialRecord], most: int | None = None
) -> list[TrialRecord]:
    """A goal's finalists; where only so many are wanted, the best so far and others.

    Rivals of a size that a search came to are left out, since they were measured after
    its finalists: asked again, it comes to the same ones.
    """
    kept = [r for r in records if goal.kind == "budget" or r.kind not in RIVALS]
    found, best = goal.finalists(kept), goal.best(kept)
    if most is None:
        return found
    return sorted(found, key=lambda record: record is not best)[:most]


def with_scores(measured: Iterable[Measured]) -> list[Measured]:
    """Those that have one: of the others something was no finite number."""
    return [each for each in measured if each.failed is None]


def _surest_first(
    records: Sequence[TrialRecord], measured: Sequence[Measured]
) -> list[Measured]:
    """The highest scores of the search set first, since those say nothing new."""
    scores = {record.allocation.digest: record.score for record in records}
    return sorted(measured, key=lambda m: -scores.get(m.allocation.digest, -math.inf))


def _rank(space: ModelSpace) -> Callable[[Measured], tuple[float, float]]:
    """By score, the smaller one of equals."""
    return lambda measured: (measured.mean, -space.bpw(measured.allocation))


def _best_of_methods(space: ModelSpace, uniform: Sequence[Measured]) -> list[Measured]:
    """Of uniform allocations the best by each method."""
    ranked = sorted(uniform, key=_rank(space))
    return list({space.uniform_choice(m.allocation).method: m for m in ranked}.values())


def outcome_of(
    space: ModelSpace,
    winner: Measured,
    held: Beside,
    uniform: Sequence[Measured],
    contest: Contest,
) -> Outcome:
    """What was decided, with its intervals."""

    def versus(
        other: Measured | None, others: Sequence[Measured] = ()
    ) -> Interval | None:
        if other is None or other.failed:
            return None
        return contest.versus(winner, other, others)

    goal, full = contest.goal, contest.full
    best = max(held.uniform, key=_rank(space), default=None)
    results = uniform_results(space, [contest.last(each) for each in uniform])
    by_digest = {each.digest: each for each in results}
    return Outcome(
        winner=winner,
        score=contest.score(winner),
        retained=contest.retained(winner),
        sure=goal.sure(winner, full) if isinstance(goal, KeepScore) else None,
        versus=versus(best, held.fitting),
        best_uniform=by_digest[best.allocation.digest] if best else None,
        uniform=results,
        rivals=tuple(
            RivalResult(
                kind,
                each.allocation.digest,
                space.bpw(each.allocation),
                None if each.failed else each.mean,
                space.fits(each.allocation),
                versus(each),
                each.finalized,
                each.tuned,
                each.samples,
            )
            for kind, each in held.rivals.items()
        ),
        full_precision=contest.full_precision(),
        details=tuple(
            (name, value, full.details[name])
            for name, value in winner.details.items()
            if name in full.details
        ),
    )


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
                own.tuned if own else False,
                own.samples if own else 0,
            )
        )
    return tuple(results)
