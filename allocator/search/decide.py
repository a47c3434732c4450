"""The last few of a search for a budget, on the evaluation set, with intervals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.search.confirm import Beside, check_any, outcome_of, with_scores
from allocator.search.contest import Contest
from allocator.search.fidelity import fidelities
from allocator.search.finals import rivals_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.search.confirm import Outcome
    from allocator.search.finals import Finals
    from allocator.search.measured import Measured

# proposals that the evaluation set scores as the bank has them, for the front
SHOWN = 3


def decide(
    finals: Finals,
    progress: Callable[[int, int], object],
    seed: int,
    strata: Sequence[int] = (),
) -> Outcome:
    """Choose among the last few and what they are compared with.

    Each is evaluated under the weights that its search scores chose, so that nothing
    else is chosen on the evaluation set; uniform allocations that are not among them
    count as the bank has them. So what is recommended is never worse there than any of
    the rivals, or than a uniform allocation.

    Args:
        finals: the contenders, scored on the search set.
        progress: is told allocations done and wanted.
        seed: of the intervals.
        strata: numbers of evaluation samples of each task.

    Raises:
        NotReachedError: nothing has a score.
    """
    search = finals.search
    space, goal = search.setup.space, search.goal
    last = finals.last()[: search.deadline.finalists(search)]
    compared = finals.compared()
    full, found = search.evaluate(space.full), dict[str, "Measured"]()

    def finish(bank: Measured) -> Measured:
        return found.get(bank.allocation.digest, bank)

    contest = Contest(goal, full, search.evaluate, finish, seed, strata)
    fitting = with_scores([contest.measured(a) for a in space.uniform if space.fits(a)])
    wanted = {c.allocation.digest: c for c in (*last, *compared)}
    for done, (digest, each) in enumerate(wanted.items()):
        progress(done, len(wanted))
        measured = finals.shipped.evaluated(each.allocation, each.weights)
        found[digest] = contest.note(measured)
    progress(len(wanted), len(wanted))
    _evaluate_shown(finals)
    uniform = [contest.finished(each) for each in fitting]
    field = with_scores([*found.values(), *uniform])
    check_any(field)
    rivals = {k: found[c.allocation.digest] for k, c in rivals_in(compared).items()}
    beside, winner = Beside(fitting, uniform, rivals), goal.choose(field, full)
    outcome = outcome_of(space, winner, beside, fitting, contest)
    told = tuple(each.told() for each in finals.contenders)
    return replace(outcome, finalists=told, fidelities=fidelities(finals))


def _evaluate_shown(finals: Finals) -> None:
    """Measure the best proposals as the bank has them, which takes part in nothing.

    The front is shown that way: what both sets have corrects the rest.
    """
    search = finals.search
    for record in search.goal.finalists(search.records)[:SHOWN]:
        if not search.deadline.is_reached(search):
            search.evaluate(record.allocation)
