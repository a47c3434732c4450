"""How well cheaper scores predicted those of the weights that would be shipped.

Scores of the bank's weights predict finalized ones, few samples of these predict all
the others, and finalized scores predict tuned ones. Finalists alone have them; uniform
allocations are left out, which differ so much from the rest that anything would agree
about them. What came this far was chosen by the cheaper scores, so that correlations
are smaller than they would be among allocations drawn by chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.bench.finalize import BANK, FINALIZED, TUNED
from allocator.core.records import LINEAR_FISHER
from allocator.search.finals import FEW, UNIFORM
from allocator.search.linears import KEPT, calibrating
from allocator.search.rungs import spread_out
from allocator.search.shipped import mean
from allocator.strategies._knapsack import summed
from allocator.study.looks import DIVERGENCE, reported, scaled
from allocator.study.worth import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.told import RungReport
    from allocator.search.finals import Contender, Finals
    from allocator.search.running import Search


def fidelities(finals: Finals) -> tuple[RungReport, ...]:
    """Reports of what the finalists' scores were worth, where there is anything."""
    total = finals.total
    told = [c for c in finals.contenders if UNIFORM not in c.kinds and c.size == total]
    rows = (
        ("score", total, _between(told, BANK, FINALIZED), FINALIZED),
        ("finalized score", FEW, _within(told, total), FINALIZED),
        ("finalized score", total, _between(told, FINALIZED, TUNED), TUNED),
    )
    found = (reported(kind, size, list(own), of) for kind, size, own, of in rows)
    return tuple(each for each in found if each.count > 1)


def gradients(search: Search) -> tuple[RungReport, ...]:
    """How well summed Fisher-weighted errors predicted scores, if there are any."""
    space = search.setup.space
    fine = space.by_linear()
    table = search.journal.damage(fine, KEPT + LINEAR_FISHER)
    if table is None:
        return ()

    def harmless(allocation: Allocation) -> float:
        of_linears = allocation.over(space.spec, fine.spec)
        return scaled(DIVERGENCE, summed(of_linears, table))

    search.judge()
    size = len(calibrating(search))
    found = reported("gradient-weighted errors", size, search.rungs.pairs(harmless))
    return (found,) if found.count else ()


def _between(told: Sequence[Contender], cheap: str, dear: str) -> Iterator[Pair]:
    """Scores under one kind of weights with those under another."""
    for each in told:
        first, second = (each.scores.get(weights) for weights in (cheap, dear))
        if first and second:
            yield Pair(mean(first), mean(second), None, drawn=False)


def _within(told: Sequence[Contender], total: int) -> Iterator[Pair]:
    """Finalized scores of the race's few samples, with those of the others."""
    if total < 2 * FEW:
        return
    for each in told:
        if values := each.scores.get(FINALIZED):
            few = spread_out(values, FEW)
            rest = (sum(values) - sum(few)) / (total - FEW)
            yield Pair(sum(few) / FEW, rest, None, drawn=False)
