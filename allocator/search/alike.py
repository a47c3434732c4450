"""How far what is recommended is from full precision, token by token of replies."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from allocator.bench.replied import log_probabilities, some_of, token_divergence
from allocator.core.records import TokenDivergence
from allocator.search.evaluating import full_replies
from evals.taskset import strata

if TYPE_CHECKING:
    from torch import Tensor

    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample
    from allocator.search.measured import Measured
    from allocator.search.running import Search
    from allocator.search.shipped import Shipped

# an attribute of a study, by the cells that were in place
KEPT = "token divergence:"
PHASE = "divergence"


def divergence_of(
    search: Search, shipped: Shipped, measured: Measured
) -> TokenDivergence | None:
    """The divergence of the tokens that full precision replies; taken once, and kept.

    None where that is not known, of what ranks, where it is no number, and where there
    is no time left.
    """
    kept = search.journal.attribute(KEPT + measured.applied)
    if kept is not None:
        return TokenDivergence(**kept)
    samples = _replied(search)
    if not samples:
        return None
    setup, bench = search.setup, search.bench
    parts = strata(setup.task, setup.samples["evaluation"])
    few = some_of(bench, samples, parts, setup.asked.seed)
    if search.deadline.is_reached(search, 2 * len(few) * search.deadline.per_look):
        return None
    with search.watch.phase(PHASE) as progress:

        def read(own: Workbench) -> list[Tensor]:
            done = len(few)
            return log_probabilities(
                own, measured.allocation, few, lambda n: progress(done + n, 2 * done)
            )

        full = log_probabilities(
            bench, setup.space.full, few, lambda n: progress(n, 2 * len(few))
        )
        other = shipped.under(measured, read)
    found = None if other is None else token_divergence(full, other)
    if found is not None:
        search.journal.set_attribute(KEPT + measured.applied, asdict(found))
    return found


def _replied(search: Search) -> list[Sample]:
    """The evaluation set with full precision's replies, if all are known."""
    samples, known = search.setup.samples["evaluation"], full_replies(search)
    if len(known) < len(samples):
        return []
    return [replace(s, references=(known[at],)) for at, s in enumerate(samples)]
