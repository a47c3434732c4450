"""Search, measure, confirm: `run(spec)` returns a recommendation, the study is kept."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.bench import Silent, open_bench
from allocator.confirm import Measured, confirm, importances
from allocator.core.plan import plan_json
from allocator.core.plugins import load
from allocator.core.records import Recommendation
from allocator.journal import LATEST, MEASURED, RECOMMENDED, Journal
from allocator.prepare import prepare
from allocator.strategies._base import Known
from evals.taskset import strata

if TYPE_CHECKING:
    from allocator.bench import Watch
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Split
    from allocator.core.study import StudySpec
    from allocator.prepare import Setup
    from allocator.strategies._base import Strategy
    from allocator.trial import Workbench

# samples of the calibration set that the prior's probes read
PROBED = 64


@dataclass
class Search:
    """A running search: the request, the study, the model on the bench."""

    setup: Setup
    journal: Journal
    bench: Workbench
    watch: Watch
    clock: Clock
    seconds: dict[str, float] = field(default_factory=dict)
    evaluated: int = 0
    infeasible: int = 0

    @property
    def made(self) -> int:
        """Proposals for this budget, finished or under way in any process."""
        counts = self.journal.counts(self.budget)
        return counts["complete"] + counts["running"]

    @property
    def budget(self) -> str:
        """Name of the budget inside the study: equal budgets have equal names."""
        limit = self.setup.space.budget
        return f"{limit.bytes(self.setup.model):.3f}/{limit.scope}"

    def score(self, allocation: Allocation, split: Split) -> Any:
        """Score an allocation on a split."""
        samples = self.setup.samples[split]
        self.evaluated += len(samples)
        return self.bench.score(allocation, samples)

    def measure(self, allocation: Allocation, kind: str) -> None:
        """Measure an allocation on the search set, once and for all."""
        space = self.setup.space
        about = {
            "kind": kind,
            "budget": self.budget if kind == "proposal" else None,
            "applied": self.bench.applied(allocation),
        }
        number = self.journal.begin(space, allocation, about)
        try:
            score = self.score(allocation, "search").mean
        except BaseException:
            self.journal.abandon(number)
            raise
        self.journal.finish(number, score)

    def evaluate(self, allocation: Allocation) -> Measured:
        """Measure an allocation on the evaluation set, or recall that it was."""
        key = MEASURED + allocation.digest
        kept = self.journal.attribute(key)
        if kept is None:
            score = self.score(allocation, "evaluation")
            applied = self.bench.applied(allocation)
            kept = {
                "values": list(score.values),
                "applied": applied,
                "details": dict(score.details),
            }
            self.journal.keep(key, kept)
        # studies of before have none
        details = kept.get("details", {})
        return Measured(allocation, tuple(kept["values"]), kept["applied"], details)


def run(asked: StudySpec, watch: Watch | None = None) -> Recommendation:
    """Find the best allocation for a model, a task and a budget.

    Everything measured is kept in the study; asked again, only what is missing is done.

    Args:
        asked: model, task, budget and how to search.
        watch: is told how far the search is; None searches in silence.

    Raises:
        AllocateError: an impossible request, said before anything heavy is loaded.
    """
    clock = Clock()
    return run_prepared(prepare(asked), watch or Silent(), clock)


def run_prepared(setup: Setup, watch: Watch, clock: Clock) -> Recommendation:
    """The same for a request that was looked up and checked since `clock` started."""
    asked = setup.asked
    journal = Journal.create(
        asked.storage, setup.study, setup.identity, asked.to_json()
    )
    journal.release_stale()
    bank = Clock()
    bench = open_bench(setup, watch)
    search = Search(setup, journal, bench, watch, clock)
    search.seconds["bank"] = bank.seconds
    searching = Clock()
    baselines(search)
    propose(search)
    search.seconds["search"] = searching.seconds
    found = conclude(search)
    plan = plan_json(asked, setup.model, found.allocation)
    journal.keep(RECOMMENDED + search.budget, {"found": found.to_json(), "plan": plan})
    journal.keep(LATEST, search.budget)
    return found


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return time.monotonic() - self.started


def baselines(search: Search) -> None:
    """Measure full precision and every uniform allocation that fits, on both sets."""
    space = search.setup.space
    wanted = [(space.full, "full")]
    wanted += [(a, "uniform") for a in space.uniform if space.fits(a)]
    with search.watch.phase("baselines") as progress:
        for done, (allocation, kind) in enumerate(wanted):
            progress(done, len(wanted))
            if allocation.digest not in search.journal.taken():
                search.measure(allocation, kind)
            search.evaluate(allocation)
        progress(len(wanted), len(wanted))


def propose(search: Search) -> None:
    """Measure proposals until the trials asked for are done for this budget."""
    asked, space = search.setup.asked, search.setup.space
    if search.made >= asked.trials:
        return
    strategy = make_strategy(search)
    with search.watch.phase("search") as progress:
        while (made := search.made) < asked.trials:
            progress(made, asked.trials)
            if asked.seconds and search.clock.seconds > asked.seconds:
                search.watch.say(f"time limit reached after {made} proposals")
                return
            found = strategy.ask(Known.of(space, search.journal.study))
            if not found:
                search.watch.say(f"nothing new to propose after {made} proposals")
                return
            allocation = found[0].allocation
            if not space.fits(allocation):
                # a strategy that breaks its promise ends the search
                search.infeasible += 1
                return
            search.measure(allocation, "proposal")
        progress(asked.trials, asked.trials)


def make_strategy(search: Search) -> Strategy:
    """The strategy asked for, with the prior's damages."""
    asked = search.setup.asked
    make = load("allocator.strategies", asked.strategy, "strategy")
    strategy: Strategy = make(search.setup.space, asked.seed, prior(search))
    return strategy


def prior(search: Search) -> dict[Any, float]:
    """Damage of every group at every choice, measured once for a study."""
    from allocator.trial import damages

    space = search.setup.space
    kept = search.journal.damage(space)
    if kept is None:
        total = len(space.keys) * len(space.choices)
        probed = search.setup.samples["calibration"][:PROBED]
        with search.watch.phase("probes") as progress:
            kept = dict(
                damages(
                    search.bench,
                    probed,
                    space.choices,
                    lambda done: progress(done, total),
                )
            )
        search.journal.keep_damage(kept)
    return kept


def conclude(search: Search) -> Recommendation:
    """Confirm finalists on the evaluation set and put the outcome together."""
    setup, space = search.setup, search.setup.space
    confirming = Clock()
    records = search.journal.records(space)
    with search.watch.phase("confirmation") as progress:
        outcome = confirm(
            space,
            records,
            search.evaluate,
            progress,
            setup.asked.seed,
            strata(setup.task, setup.samples["evaluation"]),
        )
    importance = importances(space, records, setup.asked.seed)
    search.seconds["confirm"] = confirming.seconds
    size = space.size(outcome.winner.allocation)
    counts = search.journal.counts(search.budget)
    return Recommendation(
        study=search.journal.name,
        storage=search.journal.url,
        model=setup.asked.model,
        task=setup.task.name,
        metric=setup.task.metric,
        scheme=space.scheme,
        budget_bpw=space.budget.bpw(space.spec),
        scope=space.budget.scope,
        full_precision=outcome.full_precision,
        uniform=outcome.uniform,
        allocation=outcome.winner.allocation,
        applied=outcome.winner.applied,
        bpw=size.bpw(space.budget.scope),
        bpw_quantized=size.bpw("quantized"),
        score=outcome.score,
        versus=outcome.versus,
        best_uniform=outcome.best_uniform,
        details=outcome.details,
        front=outcome.front,
        importance=importance,
        complete=counts["complete"],
        pruned=counts["pruned"],
        failed=counts["failed"],
        infeasible=search.infeasible,
        evaluated_samples=search.evaluated,
        seconds=(("total", search.clock.seconds), *search.seconds.items()),
    )
