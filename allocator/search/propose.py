"""Proposals: ask a strategy, look cheaply, measure what survives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL
from allocator.core.plugins import load
from allocator.core.records import RungReport
from allocator.search.narrowing import Narrowing
from allocator.space.model import limit_of, within_name
from allocator.strategies._base import Known
from allocator.study.frozen import keep_frozen, read_frozen
from allocator.study.looks import correlation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.search.running import Search
    from allocator.space.model import ModelSpace
    from allocator.strategies._base import Candidate, Strategy
    from allocator.study.frozen import FrozenGroup

    Proposer = Strategy | Narrowing

# samples of the calibration set that the prior's probes read
PROBED = 64


def propose(search: Search) -> None:
    """Measure proposals until the trials asked for are done for this goal."""
    asked = search.setup.asked
    if search.made >= asked.trials:
        return
    damage = prior(search)
    make = load("allocator.strategies", asked.strategy, "strategy")
    strategies: dict[float, Proposer] = {}
    with search.watch.phase("search") as progress:
        while (made := search.made) < asked.trials:
            progress(made, asked.trials, so_far(search))
            if asked.seconds and search.clock.seconds > asked.seconds:
                search.watch.say(f"time limit reached after {made} proposals")
                return
            space = search.goal.space(search.records, search.spent_limits)
            if space is None:
                search.watch.say(f"nothing left to try after {made} proposals")
                return
            # one for each budget: it remembers what it worked out
            if space.room not in strategies:
                proposer = make(space, asked.seed, damage)
                if asked.narrowing:
                    proposer = narrowing(search, space, proposer)
                strategies[space.room] = proposer
            if not step(search, space, strategies[space.room]):
                search.spent_limits.add(limit_of(space))
        progress(asked.trials, asked.trials, so_far(search))


def so_far(search: Search) -> str:
    """The best score and its size."""
    best = search.goal.best(search.records)
    return "" if best is None else f"best {best.score:.2f} at {best.bpw:.3f} bpw"


def narrowing(search: Search, space: ModelSpace, strategy: Strategy) -> Narrowing:
    """A strategy that leaves groups alone which hardly matter within a budget."""
    journal, budget = search.journal, within_name(space)

    def kept(at: int, frozen: Sequence[FrozenGroup]) -> None:
        keep_frozen(journal, budget, at, frozen)

    return Narrowing(strategy, read_frozen(journal, budget), kept)


def step(search: Search, space: ModelSpace, strategy: Proposer) -> bool:
    """Measure one proposal; False where nothing is left within its budget."""
    since = search.clock.seconds
    known = known_of(search, space)
    with_rungs = search.setup.asked.rungs and search.rungs.ladder
    found = strategy.ask(known, strategy.offspring if with_rungs else 1)
    search.spent("sampler", since)
    if not found:
        return False
    chosen = found[0]
    if len(found) > 1:
        chosen = survivor(search, found, known)
    digest = chosen.allocation.digest
    is_taken = digest in search.journal.taken(search.setup.space)
    reason = None
    if not space.fits(chosen.allocation):
        search.infeasible += 1
        kept = space.keeps_pins(chosen.allocation)
        reason = "what is over the budget" if kept else "what breaks the pins"
    elif is_taken and digest in search.skipped:
        reason = "again what is measured"
    if reason:
        # a strategy that breaks its promise is not asked again
        name = search.setup.asked.strategy
        search.watch.say(f"strategy {name} proposed {reason}, and is not asked again")
        return False
    if is_taken:
        # another process began it while this one was looking
        search.skipped.add(digest)
        return True
    about = {**chosen.about, "limit": limit_of(space)}
    search.measure(chosen.allocation, "proposal", about)
    return True


def survivor(search: Search, found: list[Candidate], known: Known) -> Candidate:
    """The candidate that outlives the rungs; the others are told as passed over."""
    rungs = search.rungs
    rungs.fresh.clear()
    if not search.distrusts and not rungs.trusts(known.measured):
        search.distrusts = True
        report = rungs.widest(known.measured)
        search.watch.say(
            f"divergence does not predict this task (rank correlation "
            f"{report.spearman:.2f} over {report.count} allocations): few samples are "
            "scored instead"
        )
    chosen = rungs.survivor(found, known.measured)
    space, goal = search.setup.space, search.goal.name
    search.journal.keep_looks(space, chosen.allocation.digest, goal, rungs.fresh)
    # those that went far are trials of their own
    last = {a.digest for a, (_, size), _ in rungs.fresh if size > rungs.ladder[0][1]}
    for each in found:
        if each is not chosen and each.allocation.digest in last:
            seen = {**each.about, **rungs.of(each.allocation)}
            about = {"kind": "candidate", "budget": goal, **seen}
            search.journal.add_pruned(space, each.allocation, about)
    return chosen


def known_of(search: Search, space: ModelSpace) -> Known:
    """Everything a strategy may know, of all budgets."""
    measured = tuple((r.allocation, r.score) for r in search.records)
    return Known(
        measured,
        search.rungs.estimates(measured) if search.setup.asked.rungs else (),
        frozenset(search.journal.taken(space)),
    )


def prior(search: Search) -> dict[Any, float]:
    """Damage of every group at every choice, measured once for a study."""
    from allocator.bench.probes import damages

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
        search.count(space.full, len(probed))
        for key, choice in kept:
            if choice.bits < FULL:
                search.count(space.full.replace({key: choice}), len(probed))
        search.journal.keep_damage(kept)
    return kept


def proxies(search: Search) -> tuple[RungReport, ...]:
    """How well the prior's summed damage and each rung predicted the full score."""
    measured = [(r.allocation, r.score) for r in search.records]
    damage = search.journal.damage(search.setup.space)
    if damage is None:
        return search.rungs.reports(measured)
    pairs = [(-sum(damage.get(at, 0.0) for at in a), score) for a, score in measured]
    prior = RungReport("summed damage", PROBED, len(pairs), correlation(pairs))
    return prior, *search.rungs.reports(measured)
