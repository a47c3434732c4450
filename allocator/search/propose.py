"""Proposals: ask a strategy, look cheaply, measure what survives."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.bench.finalize import BANK
from allocator.core.allocation import FULL
from allocator.core.plugins import load
from allocator.search.at_once import at_once
from allocator.search.leftover import take_over
from allocator.search.narrowing import Narrowing
from allocator.search.races import keep_race, unfinished_race
from allocator.search.taken import taken
from allocator.space.model import limit_of, within_name
from allocator.strategies._base import Known
from allocator.study.entry import CONTROL
from allocator.study.frozen import keep_frozen, read_frozen
from allocator.study.journal import DAMAGE
from allocator.study.looks import DIVERGENCE, reported, scaled
from allocator.study.proposed import controls_made, made_nearby

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.study import StudySpec
    from allocator.core.told import RungReport
    from allocator.search.running import Search
    from allocator.space.model import ModelSpace
    from allocator.strategies._base import Candidate, Strategy
    from allocator.study.frozen import FrozenGroup

    Proposer = Strategy | Narrowing

# samples of the calibration set that the prior's probes read
PROBED = 64
# proposals of a search that nothing is known for, and of one that other budgets helped:
# fewer do not tell what looks are worth
TRIALS, FEWEST_TRIALS = 20, 8
# proposals without a score after which a budget of a front, or of a share, is left
LOST = 3


def propose(search: Search) -> None:
    """Measure proposals until as many are done for this goal as there are to be."""
    wanted, alone, nearby = wanted_of(search)
    if search.made >= wanted:
        return
    if wanted < alone:
        search.watch.say(
            f"{nearby} proposals near this budget are measured already: {wanted} more "
            f"take the place of {alone} (--trials asks for others)"
        )
    damage = prior(search)
    if damage is None:
        return
    proposer = proposers(search, damage)
    with search.watch.phase("search") as progress:
        while (made := _made(search)) < wanted:
            progress(made, wanted, so_far(search))
            if not search.deadline.allows_step(search):
                search.watch.say(f"time limit reached after {made} proposals")
                return
            space = search.goal.space(search.records, _spent(search))
            if space is None:
                search.watch.say(f"nothing left to try after {made} proposals")
                return
            with search.deadline.step():
                times = min(search.setup.asked.at_once, wanted - made)
                some = partial(step, search, space, proposer(space), times)
                found = search.deadline.attempt(some)
            # one that was given up is no sign of that
            if found is False:
                search.spent_limits.add(limit_of(space))
        progress(wanted, wanted, so_far(search))


def wanted_of(search: Search) -> tuple[int, int, int]:
    """Proposals to measure for this goal; as many without those nearby; and those."""
    space, asked = search.setup.space, search.setup.asked
    goal = search.goal.name
    nearby = made_nearby(search.journal, space, goal, limit_of(space))
    return trials_of(asked, nearby), trials_of(asked), nearby


def trials_of(asked: StudySpec, nearby: int = 0) -> int:
    """How many proposals to measure for a goal.

    What was asked; otherwise TRIALS, for a budget less those measured `nearby`, for
    other budgets: their scores and looks teach the same trees (studies/LOG.md).
    """
    if asked.trials is not None:
        return asked.trials
    return TRIALS if asked.budget is None else max(FEWEST_TRIALS, TRIALS - nearby)


def proposers(
    search: Search, damage: dict[Any, float]
) -> Callable[[ModelSpace], Proposer]:
    """What proposes within a budget: one for each, as it remembers what it found."""
    asked = search.setup.asked
    make = load("allocator.strategies", asked.strategy, "strategy")
    known: dict[float, Proposer] = {}

    def proposer(space: ModelSpace) -> Proposer:
        if space.room not in known:
            made = make(space, asked.seed, damage)
            own = narrowing(search, space, made) if asked.narrowing else made
            known[space.room] = own
        return known[space.room]

    return proposer


def _spent(search: Search) -> set[float]:
    """Budgets within which nothing new is left, or too much has failed.

    One that was asked for is gone on with.
    """
    if search.goal.kind == "budget":
        return search.spent_limits
    failed = Counter(
        entry.about.get("limit")
        for entry in search.journal.entries(search.setup.space)
        if entry.failure and entry.about.get("budget") == search.goal.name
    )
    return search.spent_limits | {at for at, n in failed.items() if at and n >= LOST}


def _made(search: Search) -> int:
    """Proposals made, those among them that dead processes left."""
    take_over(search)
    return search.made


def so_far(search: Search) -> str:
    """The best score and its size: of the search set, which knows no better."""
    best = search.goal.best(search.records)
    if best is None:
        return ""
    return f"best {best.score:.2f} on the search set at {best.bpw:.3f} bpw"


def narrowing(search: Search, space: ModelSpace, strategy: Strategy) -> Narrowing:
    """A strategy that leaves groups alone which hardly matter within a budget."""
    journal, budget = search.journal, within_name(space)

    def kept(at: int, frozen: Sequence[FrozenGroup]) -> None:
        keep_frozen(journal, budget, at, frozen)

    return Narrowing(strategy, read_frozen(journal, budget), kept)


def step(search: Search, space: ModelSpace, strategy: Proposer, times: int = 1) -> bool:
    """Measure one proposal, or several at once; False where nothing is left to propose.

    Within the budget, that is; several race and are measured side by side.
    """
    since = search.clock.seconds
    known = known_of(search, space)
    with_rungs = search.setup.asked.rungs and search.rungs.ladder
    search.rungs.fresh.clear()
    left = unfinished_race(search, space) if with_rungs else []
    count = strategy.offspring if with_rungs else 1
    found = [left] if left else at_once(strategy, known, times, count)
    search.spent("sampler", since)
    if not found:
        return False
    if len(found) > 1 and with_rungs:
        kind, size, _ = search.rungs.rungs()[0]
        search.rungs.begin([c.allocation for own in found for c in own], kind, size)
    chosen: list[tuple[Candidate, dict[str, Any]]] = []
    for own in found:
        about: dict[str, Any] = {"limit": limit_of(space)}
        best = own[0]
        if len(own) > 1:
            best, raced = survivor(search, own, known, about, space, chosen)
            about |= raced
            search.rungs.fresh.clear()
        chosen.append((best, {**best.about, **about}))
    if len(chosen) > 1:
        samples = search.setup.samples["search"]
        wanted = [(each.allocation, samples, BANK) for each, _ in chosen]
        search.ahead.replies_of(wanted)
    return all([_measured(search, space, *each) for each in chosen])


def _measured(
    search: Search, space: ModelSpace, chosen: Candidate, told: Mapping[str, Any]
) -> bool:
    """Measure a proposal; False where the strategy broke its promise."""
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
    if is_taken or not search.measure(chosen.allocation, "proposal", told):
        # another process began it while this one was looking
        search.skipped.add(digest)
    return True


def survivor(
    search: Search,
    found: list[Candidate],
    known: Known,
    about: Mapping[str, Any],
    space: ModelSpace,
    before: Sequence[tuple[Candidate, Mapping[str, Any]]] = (),
) -> tuple[Candidate, dict[str, Any]]:
    """The candidate that outlives the rungs, or a control, and what is said of it.

    The others are told as passed over. `before` are proposals that were chosen at once
    with it, and what is said of them.
    """
    rungs = search.rungs
    say_distrust(search)
    drawn = drawn_for_control(search, found, known, [told for _, told in before])
    told = {**about, **({CONTROL: True} if drawn else {})}

    def keep() -> None:
        keep_race(search, space, found)

    if drawn:
        chosen = rungs.control(drawn)
    else:
        chosen = rungs.survivor(found, known.measured, keep)
    whole, goal = search.setup.space, search.goal.name
    search.journal.keep_looks(whole, chosen.allocation.digest, goal, rungs.fresh)
    # those that went far are trials of their own
    last = {a.digest for a, (_, size), _ in rungs.fresh if size > rungs.ladder[0][1]}
    for each in drawn or found:
        if each is not chosen and each.allocation.digest in last:
            seen = {**each.about, **rungs.of(each.allocation)}
            passed = {"kind": "candidate", "budget": goal, **told, **seen}
            search.journal.add_pruned(whole, each.allocation, passed)
    return chosen, told


def drawn_for_control(
    search: Search,
    found: list[Candidate],
    known: Known,
    before: Sequence[Mapping[str, Any]] = (),
) -> list[Candidate]:
    """Candidates that chance draws, where a control is due; otherwise none.

    `before` is said of proposals that were chosen at once with these.
    """
    space, goal = search.setup.space, search.goal.name
    due = search.rungs.controls_due(search.made + len(before))
    drawn = sum(CONTROL in about for about in before)
    if controls_made(search.journal, space, goal) + drawn >= due:
        return []
    rng = np.random.default_rng([search.setup.asked.seed, len(known.measured), due])
    return search.rungs.drawn(found, rng)


def say_distrust(search: Search) -> None:
    """Say once that divergence does not predict the task."""
    if search.distrusts or search.rungs.trusts():
        return
    search.distrusts = True
    found = search.rungs.widest()
    low, high = found.ci95 or (-1.0, 1.0)
    search.watch.say(
        f"divergence does not predict this task (rank correlation {found.spearman:.2f} "
        f"[{low:.2f}, {high:.2f}] over {found.count} allocations of a budget, "
        f"{found.controls} of them drawn by chance): few samples are scored instead"
    )


def known_of(search: Search, space: ModelSpace) -> Known:
    """Everything a strategy may know, of all budgets."""
    search.judge()
    measured = tuple((r.allocation, r.score) for r in search.records)
    estimated = search.rungs.estimates(measured) if search.setup.asked.rungs else ()
    if estimated:
        # what overflowed is no better than the worst: nobody is to look there again
        worst = min(score for _, score in (*measured, *estimated))
        lost = {each.digest: each for each in search.lost}
        known = ((a, score) for a, score in estimated if a.digest not in lost)
        estimated = (*known, *((each, worst) for each in lost.values()))
    return Known(measured, estimated, frozenset(search.journal.taken(space)))


def prior(search: Search) -> dict[Any, float] | None:
    """Damage of every group at every choice, measured once for a study.

    None where there is no time for it.
    """
    space = search.setup.space
    total = len(space.keys) * len(space.choices)
    return taken(search, space, DAMAGE, total, partial(_probe, search))


def _probe(
    search: Search, found: dict[Any, float], tick: Callable[[int], object]
) -> dict[Any, float]:
    """All probes; those that are not among those found are taken."""
    from allocator.bench.probes import damages

    space, before = search.setup.space, set(found)
    probed = search.setup.samples["calibration"][:PROBED]
    wanted = [(k, c) for k in space.keys for c in space.choices if c.bits < FULL]
    try:
        search.ahead.probes(search.bench, probed, wanted, found, tick)
        return damages(search.bench, probed, space.choices, tick, found)
    finally:
        search.count(space.full, len(probed))
        for key, choice in found:
            if choice.bits < FULL and (key, choice) not in before:
                search.count(space.full.replace({key: choice}), len(probed))


def proxies(search: Search) -> tuple[RungReport, ...]:
    """How well the prior's summed damage and each rung predicted the full score."""
    search.judge()
    damage = search.journal.damage(search.setup.space)
    if damage is None:
        return search.rungs.reports()

    def harmless(allocation: Allocation) -> float:
        return scaled(DIVERGENCE, sum(damage.get(at, 0.0) for at in allocation))

    pairs = search.rungs.pairs(harmless)
    return reported("summed damage", PROBED, pairs), *search.rungs.reports()
