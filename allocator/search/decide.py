"""The last few of a search for a budget, on the evaluation set, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from allocator.bench.finalize import BANK
from allocator.search.confirm import Beside, check_any, outcome_of, with_scores
from allocator.search.contest import Contest
from allocator.search.elimination import TIE, Race, Racer
from allocator.search.fidelity import fidelities
from allocator.search.finals import rivals_in
from allocator.search.shipped import Shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.search.confirm import Outcome
    from allocator.search.finals import Finals
    from allocator.search.measured import Measured
    from allocator.search.running import Search

    Progress = Callable[[int, int], object]

# proposals that the evaluation set scores as the bank has them, for the front
SHOWN = 3


@dataclass(frozen=True)
class Entrant:
    """An allocation under the weights that it would be shipped with.

    What is `given` was not found by the search: a uniform allocation, a rival.
    """

    allocation: Allocation
    weights: str = BANK
    given: bool = False


def decide(
    finals: Finals, progress: Progress, seed: int, strata: Sequence[int] = ()
) -> Outcome:
    """Choose among the last few and what they are compared with.

    Each is evaluated under the weights that its search scores chose, so that nothing
    else is chosen on the evaluation set; uniform allocations that are not among them
    count as the bank has them. So what is recommended is never worse there than any of
    the rivals, or than a uniform allocation, on what both were scored on.

    Args:
        finals: the contenders, scored on the search set.
        progress: is told how much is done, and how much there is to do.
        seed: of the intervals.
        strata: numbers of evaluation samples of each task.

    Raises:
        NotReachedError: nothing has a score.
    """
    search = finals.search
    last = finals.last()[: search.deadline.finalists(search)]
    compared = finals.compared()
    given = {each.allocation.digest for each in compared}
    entrants = [
        Entrant(each.allocation, each.weights, each.allocation.digest in given)
        for each in {c.allocation.digest: c for c in (*last, *compared)}.values()
    ]
    entered = {each.allocation.digest for each in entrants}
    uniform = _uniform(search)
    entrants += [each for each in uniform if each.allocation.digest not in entered]
    rivals = {kind: each.allocation for kind, each in rivals_in(compared).items()}
    outcome, counts = _raced(finals.shipped, entrants, rivals, progress, seed, strata)
    _evaluate_shown(search)
    told = tuple(
        replace(each.told(), evaluated=counts.get(each.allocation.digest, 0))
        for each in finals.contenders
    )
    return replace(outcome, finalists=told, fidelities=fidelities(finals))


def decide_as_banked(
    search: Search,
    rivals: Mapping[str, Allocation],
    progress: Progress,
    strata: Sequence[int] = (),
) -> Outcome:
    """The same where nothing is finalized: all as the bank has them."""
    space, most = search.setup.space, search.deadline.finalists(search)
    found = [*rivals.values(), *(each.allocation for each in _uniform(search))]
    entrants = {each.digest: Entrant(each, given=True) for each in found}
    own = [r.allocation for r in search.goal.finalists(search.records)[:most]]
    if space.fits(space.full):
        own.append(space.full)
    entrants |= {a.digest: Entrant(a) for a in own if a.digest not in entrants}
    seed = search.setup.asked.seed
    wanted = Shipped(search), list(entrants.values()), rivals, progress, seed, strata
    return _raced(*wanted)[0]


def _uniform(search: Search) -> list[Entrant]:
    space = search.setup.space
    return [Entrant(each, given=True) for each in space.uniform if space.fits(each)]


def _raced(
    shipped: Shipped,
    entrants: Sequence[Entrant],
    rivals: Mapping[str, Allocation],
    progress: Progress,
    seed: int,
    strata: Sequence[int],
) -> tuple[Outcome, dict[str, int]]:
    """What the evaluation set decides; by digest, the samples it took of each."""
    search = shipped.search
    space, goal, whole = search.setup.space, search.goal, search.looks.total
    full = search.evaluate(space.full)
    race = _race(shipped, entrants, full, progress, strata)
    race.run()
    check_any(with_scores([each.scored for each in race.racers]))
    chosen = race.choose()
    contest = Contest(goal, full, search.evaluate, lambda bank: bank, seed, strata)
    found = {
        each.allocation.digest: contest.note(race.held_against(each, chosen))
        for each in race.racers
    }
    winner = found[chosen.allocation.digest]
    fitting = with_scores([found[a.digest] for a in space.uniform if space.fits(a)])
    held = {kind: found[allocation.digest] for kind, allocation in rivals.items()}
    beside = Beside(fitting, fitting, held)
    counts = {d: whole if m.failed else m.samples for d, m in found.items()}
    return outcome_of(space, winner, beside, fitting, contest), counts


def _race(
    shipped: Shipped,
    entrants: Sequence[Entrant],
    full: Measured,
    progress: Progress,
    strata: Sequence[int],
) -> Race:
    search = shipped.search
    setup, looks = search.setup, search.looks
    images = [sample.image for sample in setup.samples["evaluation"]]
    number = {image: at for at, image in enumerate(dict.fromkeys(images))}
    points = 1.0 if "%" in setup.task.metric else full.mean / 100
    racers = [
        Racer(
            each.allocation,
            setup.space.bpw(each.allocation),
            partial(shipped.evaluated, each.allocation, each.weights),
            partial(shipped.known, each.allocation, each.weights),
            each.given,
        )
        for each in entrants
    ]
    weights = {each.allocation.digest: each.weights for each in entrants}

    def ahead(left: Sequence[Racer], size: int) -> None:
        wanted = [(e.allocation, weights[e.allocation.digest]) for e in left]
        shipped.evaluated_ahead(wanted, size)

    def hurries() -> bool:
        per_look = len(racers) * looks.sizes[0]
        return search.deadline.is_reached(search, per_look * search.deadline.per_sample)

    tie = TIE * points if setup.asked.race else 0.0
    pictures = np.array([number[image] for image in images])
    return Race(racers, looks, pictures, strata, tie, hurries, progress, ahead)


def _evaluate_shown(search: Search) -> None:
    """Score uniform allocations and the best proposals as the bank has them.

    They take part in nothing. The front is shown that way: what both sets have corrects
    the rest, for which the first look is enough.
    """
    best = [r.allocation for r in search.goal.finalists(search.records)[:SHOWN]]
    for allocation in (*best, *(each.allocation for each in _uniform(search))):
        if not search.deadline.is_reached(search):
            search.evaluate(allocation, size=search.looks.sizes[0])
