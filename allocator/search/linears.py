"""Single linears: what each does alone, and the rivals that tools make of such tables.

Each rival is a knapsack's optimum over single linears within the budget, as NVIDIA
ModelOpt's `auto_quantize` and AutoRound's `AutoScheme` allocate: of the KL by probes,
of Fisher-weighted errors, or of relative output errors (`allocator.bench.sensitivity`).
The tables are kept with the study, so that nothing is measured twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.records import LINEAR_ADDITIVE, LINEAR_ERROR, LINEAR_FISHER
from allocator.search.propose import PROBED
from allocator.search.taken import taken
from allocator.strategies._knapsack import knapsack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.bench.sensitivity import Sensitivity
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample
    from allocator.search.running import Search
    from allocator.search.taken import Table
    from allocator.space.model import FineSpace, ModelSpace

# names of a study's attributes: before the kind of rival that a table is for
KEPT = "damage:"
# samples of the calibration set that gradients are taken of: of a small model, of a
# large one
SEEN = (128, 16)


def linear_rivals(search: Search, space: ModelSpace) -> dict[str, Allocation]:
    """Optima over single linears within a budget, by kind.

    There are none where linears may not differ from their group, and only those for
    which there was time.
    """
    if not search.setup.asked.refines:
        return {}
    fine = space.by_linear()
    tables = linear_tables(search).items()
    return {kind: fine.coarsened(knapsack(fine, table)) for kind, table in tables}


def linear_tables(search: Search) -> dict[str, Table]:
    """Tables of single linears by the kind of rival made of them, as far as in time.

    The first is the one whose sums rank allocations best (studies/LOG.md). A large
    model is not probed: its Fisher-weighted errors have to do.
    """
    fine = search.setup.space.by_linear()
    found = sensitivities(search, fine)
    if found is None:
        return {}
    tables = {LINEAR_FISHER: found.fisher, LINEAR_ERROR: found.relative_error}
    probed = None if fine.spec.is_large else _probed(search, fine, found)
    return tables if probed is None else {**tables, LINEAR_ADDITIVE: probed}


def sensitivities(search: Search, fine: FineSpace) -> Sensitivity | None:
    """Errors of single linears; None where there is no time for them."""
    from allocator.bench.sensitivity import Sensitivity, sensitivity

    names = [KEPT + kind for kind in (LINEAR_FISHER, LINEAR_ERROR)]
    first, second = (search.journal.damage(fine, name) for name in names)
    if first is not None and second is not None:
        return Sensitivity(first, second)
    samples = calibrating(search)
    total = len(fine.spec.linears)

    def tick(done: int) -> None:
        # each batch passes all of them
        progress(done % total, total)
        if search.deadline.is_reached(search):
            raise TimeoutError

    with search.watch.phase("gradients") as progress:
        try:
            bench, seed = search.bench.over(fine.spec), search.setup.asked.seed
            found = sensitivity(bench, samples, fine.choices, seed, tick)
        except TimeoutError:
            search.watch.say("time limit reached before single linears were looked at")
            return None
    search.count(search.setup.space.full, len(samples))
    for name, table in zip(names, (found.fisher, found.relative_error), strict=True):
        search.journal.keep_damage(table, name)
    return found


def calibrating(search: Search) -> Sequence[Sample]:
    """Samples that gradients are taken of."""
    setup = search.setup
    return setup.samples["calibration"][: SEEN[setup.model.is_large]]


def _probed(search: Search, fine: FineSpace, errors: Sensitivity) -> Table | None:
    """KL of single linears by few probes; None where there is no time for them."""
    from allocator.bench.probes import few_damages, followed

    samples = search.setup.samples["calibration"][:PROBED]
    probes = set(followed(fine.keys, fine.choices, errors).values())

    def take(found: Table, tick: Callable[[int], object]) -> Table:
        before, bench = set(found), search.bench.over(fine.spec)
        wanted = sorted(probes, key=str)
        try:
            search.ahead.probes(bench, samples, wanted, found, tick, fine=True)
            return few_damages(bench, samples, fine.choices, errors, tick, found)
        finally:
            search.count(fine.full, len(samples))
            for at in found.keys() - before:
                search.count(fine.full.replace(dict([at])), len(samples))

    return taken(search, fine, KEPT + LINEAR_ADDITIVE, len(probes), take)
