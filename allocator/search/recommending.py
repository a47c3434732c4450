"""What is told of a search's outcome: the recommendation, whole and in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.records import Recommendation, rival_name
from allocator.explain.shown import Shown
from allocator.search.fidelity import gradients
from allocator.search.propose import proxies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.records import Interval
    from allocator.search.confirm import Outcome
    from allocator.search.running import Search


def in_short(found: Recommendation) -> dict[str, str]:
    """A recommendation in a few lines, for people who open its study elsewhere."""
    full, best, rival = found.full_precision, found.score, found.best_uniform

    def gain(over: Interval | None, name: str = "") -> str:
        if over is None:
            return "none of these has a score"
        return f"{over.mean:+.4g} [{over.low:+.4g}, {over.high:+.4g}]{name}"

    uniform = f", {rival.name}" if rival else ""
    return {
        "recommended": f"{best.mean:.4g} [{best.low:.4g}, {best.high:.4g}] at "
        f"{found.bpw:.3f} bits per weight",
        "over the best uniform allocation": gain(found.versus, uniform),
        **{f"over the {rival_name(r.name)}": gain(r.versus) for r in found.rivals},
        "full precision": f"{full.mean:.4g} [{full.low:.4g}, {full.high:.4g}]",
        "values of trials": "of the search set, which flatters what was chosen on it; "
        "the above and `allocate report` are of the evaluation set, or corrected",
        "shown by": f"allocate studies show {found.study}",
    }


def recommended(
    search: Search, outcome: Outcome, shares: Mapping[str, Any]
) -> Recommendation:
    """What a search recommends, with all that is told of it."""
    setup, space, asked = search.setup, search.setup.space, search.setup.asked
    size, scope = space.size(outcome.winner.allocation), space.budget.scope
    counts = search.journal.counts(space, search.goal.name)
    budget = size.bpw(scope) if asked.budget is None else asked.limit.bpw(space.spec)
    return Recommendation(
        study=search.journal.name,
        storage=search.journal.shown,
        model=asked.model,
        task=setup.task.name,
        metric=setup.task.metric,
        scheme=space.scheme,
        budget_bpw=budget,
        scope=scope,
        full_precision=outcome.full_precision,
        uniform=outcome.uniform,
        allocation=outcome.winner.allocation,
        applied=outcome.winner.applied,
        bpw=size.bpw(scope),
        bpw_quantized=size.bpw("quantized"),
        score=outcome.score,
        versus=outcome.versus,
        best_uniform=outcome.best_uniform,
        details=outcome.details,
        divergence=outcome.divergence,
        rivals=outcome.rivals,
        front=Shown.of(search.journal, space).front(space),
        importance=shares,
        complete=counts["complete"],
        pruned=counts["pruned"],
        failed=counts["failed"],
        infeasible=search.infeasible,
        evaluated_samples=search.evaluated,
        goal=search.goal.kind,
        retained=outcome.retained,
        sure=outcome.sure,
        finalized=outcome.winner.finalized,
        tuned=outcome.winner.tuned,
        finalists=outcome.finalists,
        samples=search.looks.total,
        evaluated_allocations=len(search.seen),
        rungs=(*gradients(search), *proxies(search), *outcome.fidelities),
        prefix=(search.bench.cost.ran, search.bench.cost.reused),
        pins=asked.pins,
        cost=_cost(search),
        seconds=(("total", search.clock.seconds), *search.seconds.items()),
    )


def _cost(search: Search) -> dict[str, Any]:
    from allocator.bench.devices import peak_device_bytes

    return search.account.to_json(peak_device_bytes(search.setup.device))
