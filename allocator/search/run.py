"""Search, measure, confirm: `run(spec)` returns a recommendation, the study is kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from allocator.bench.finalize import FINALIZED
from allocator.bench.loading import open_bank, open_full_precision
from allocator.bench.prepare import prepare
from allocator.bench.references import adopt, referred
from allocator.core.account import Accounted
from allocator.core.clock import Clock
from allocator.core.plan import plan_json
from allocator.core.records import LINEAR_RIVALS, Recommendation
from allocator.core.watch import Silent
from allocator.explain.kept import importance_of
from allocator.search.alike import divergence_of
from allocator.search.baseline import (
    await_baselines,
    begin_baselines,
    measure_baseline,
)
from allocator.search.confirm import confirm
from allocator.search.crew.leading import leading
from allocator.search.deadline import OTHERS, Deadline, Watched
from allocator.search.decide import decide, decide_as_banked
from allocator.search.engines import engine_of, sources_of
from allocator.search.finals import LARGE_BEST, entered
from allocator.search.full import full_precision
from allocator.search.leftover import await_full, is_elsewhere, note_dead, settle
from allocator.search.linears import linear_rivals
from allocator.search.pace import Pace, Paced
from allocator.search.propose import prior, propose
from allocator.search.recommending import in_short, recommended
from allocator.search.refine import refine
from allocator.search.rivals import candidates, rivals
from allocator.search.running import Search
from allocator.search.shipped import Shipped
from allocator.study.board import BANK, OPEN
from allocator.study.journal import ARITHMETIC, COSTS, FIRST_PROMPT, Journal
from allocator.study.per_sample import EVALUATION_STRATA, STRATA
from allocator.study.recommendations import keep_recommendation
from evals.taskset import strata

if TYPE_CHECKING:
    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.study import StudySpec
    from allocator.core.watch import Tell, Watch
    from allocator.search.confirm import Outcome
    from allocator.search.crew.leading import Lead, More
    from allocator.search.measured import Measured


def run(asked: StudySpec, watch: Watch | None = None) -> Recommendation:
    """Find the best allocation for a model, a task and a goal.

    Everything measured is kept in the study; asked again, only what is missing is done.

    Args:
        asked: model, task, budget and how to search.
        watch: is told how far the search is; None searches in silence.

    Raises:
        AllocateError: an impossible request, said before anything heavy is loaded.
        NotReachedError: a score to keep that nothing measured keeps.
    """
    clock, watch = Clock(), watch or Silent()
    engine_of(asked)
    return run_prepared(prepare(asked, watch=watch), watch, clock)


def run_prepared(
    setup: Setup, watch: Watch, clock: Clock, more: More = sources_of
) -> Recommendation:
    """The same for a request that was looked up and checked since `clock` started.

    `more` gives sources of hands beside workers that join.
    """
    engine_of(setup.asked)
    journal = _journal_of(setup)
    Deadline(clock, setup.asked.seconds).check_start()
    with leading(setup, journal, watch, more) as lead:
        return _led(setup, journal, lead, watch, clock)


def _led(
    setup: Setup, journal: Journal, lead: Lead, watch: Watch, clock: Clock
) -> Recommendation:
    """A search that this process leads."""
    asked = setup.asked
    bench, watch = _opened(setup, watch, clock)
    search = Search(setup, journal, bench, watch, clock, crew=lead.crew)
    watch = search.watch = Accounted(watch, search.account)
    bench.halving.say = watch.say
    search.deadline.check_start()
    note_dead(search)
    search.setup = setup = referred(setup, watch, search.bench, journal)
    with watch.phase("full precision") as progress:
        progress(0, 1)
        full_precision(search)
        progress(1, 1)
    bank = Clock()
    lead.at(BANK)
    # who has to be started can help with it
    lead.crew.open()
    first = search.bench.model.prompt(setup.samples["search"][0])
    journal.describe(setup.task.metric, {FIRST_PROMPT: first})
    search.bench.bank = open_bank(setup, Watched(watch, search))
    lead.at(OPEN)
    journal.stand_on(setup.space, search.bench.applied)
    search.seconds["bank"] = bank.seconds
    searching = Clock()
    baselines(search)
    # from here on there is something to recommend
    search.deadline.binding = False
    propose(search)
    settle(search)
    await_baselines(search)
    search.seconds["search"] = searching.seconds
    found = conclude(search)
    plan = plan_json(asked, setup.model, found.allocation, found.finalized)
    keep_recommendation(journal, search.goal.name, found, plan)
    journal.describe(setup.task.metric, in_short(found))
    return found


def _journal_of(setup: Setup) -> Journal:
    """The study, with what others have to know of it."""
    asked, spec = setup.asked, setup.asked.to_json()
    where, timeout = asked.storage, asked.storage_timeout
    journal = Journal.create(where, setup.study, setup.identity, spec, timeout)
    journal.set_attribute(COSTS, setup.space.costs)
    journal.set_attribute(ARITHMETIC, setup.arithmetic)
    adopt(setup, journal)
    searched, evaluated = setup.samples["search"], setup.samples["evaluation"]
    for name, own in ((STRATA, searched), (EVALUATION_STRATA, evaluated)):
        journal.set_attribute(name, list(strata(setup.task, own)))
    journal.describe(setup.task.metric, {"model": asked.model, "task": asked.task})
    return journal


def _opened(setup: Setup, watch: Watch, clock: Clock) -> tuple[Workbench, Watch]:
    """The model at full precision, and a watch that tells how much time is left.

    What the search of a large model will cost is said first; of a small one it is over
    before that is known.

    Raises:
        AllocateError: a disk or a memory cannot hold what is needed.
    """
    from allocator.search.outlook import foreseen, outlook

    needs = foreseen(setup)
    bench = open_full_precision(setup)
    if not setup.model.is_large:
        return bench, watch
    found = outlook(setup, needs, bench, clock)
    for sentence in found.sentences:
        watch.say(sentence)
    return bench, Paced(watch, Pace(found.ahead))


def baselines(search: Search) -> None:
    """Measure full precision and every uniform allocation that fits.

    So are the rivals, where the budget says how large they are. All but full precision
    are scored on the search set alone: on the other one they race in the end.
    """
    space = search.setup.space
    wanted = [a for a in space.uniform if space.fits(a)]
    with search.watch.phase("baselines") as progress:
        progress(0, len(wanted) + 1)
        # done already, unless another process was at it and gave up
        full_precision(search)
        done = 1
        for some in search.ahead.portions(wanted, "search"):
            begin_baselines(search, some)
            for allocation in some:
                progress(done, len(wanted) + 1)
                done += 1
                search.deadline.check(search)
                measure_baseline(search, allocation, "uniform")
        if is_elsewhere(search):
            # something to do in the meantime, which does not hang on any score
            prior(search)
        await_full(search)
        progress(len(wanted) + 1, len(wanted) + 1)
    if search.goal.kind == "budget":
        rivals(search, space, later=True)


def conclude(search: Search) -> Recommendation:
    """Confirm finalists on the evaluation set and put the outcome together."""
    space = search.setup.space
    outcome = _shipped(search) if _ships(search) else _confirmed(search)
    divergence = divergence_of(search, Shipped(search), outcome.winner)
    outcome = replace(outcome, divergence=divergence)
    shares = importance_of(search.journal, space)
    return recommended(search, outcome, shares)


def _ships(search: Search) -> bool:
    """Whether what would be shipped is compared before anything is chosen.

    Without a budget the size is what is chosen, and rivals are found after that.
    """
    if search.goal.kind != "budget" or not search.setup.asked.finalize:
        return False
    # the best of each method, the rivals, what was imported, and the best
    asked, is_large = search.setup.asked, search.setup.model.is_large
    must = LARGE_BEST if is_large else len(asked.methods)
    must += OTHERS + len(candidates(search))
    must += len(LINEAR_RIVALS) if asked.refines else 0
    return search.deadline.finalizes(search, must)


def _shipped(search: Search) -> Outcome:
    """Finalists as they would be shipped, compared on the search set."""
    setup, space = search.setup, search.setup.space
    asked, seconds = setup.asked, search.seconds
    since = Clock()
    found = {**rivals(search, space), **linear_rivals(search, space)}
    finals = entered(search, found)
    if not finals.race():
        search.deadline.give_up_finalizing(search)
        finals.shipped.discard()
        return _confirmed(search)
    seconds["finalists"] = since.seconds
    if asked.refines:
        since = Clock()
        refine(finals)
        seconds["refinement"] = since.seconds
    if finals.shipped.tunes:
        since = Clock()
        finals.tune()
        seconds["tuning"] = since.seconds
    confirming = Clock()
    with search.watch.phase("confirmation") as progress:
        samples = setup.samples["evaluation"]
        outcome = decide(finals, progress, asked.seed, strata(setup.task, samples))
    finals.shipped.discard()
    seconds["confirm"] = confirming.seconds
    return outcome


def _confirmed(search: Search) -> Outcome:
    """Finalists on the evaluation set, as the bank has them.

    Without a budget the winner is finalized after it was chosen.
    """
    setup = search.setup
    confirming = Clock()
    parts = strata(setup.task, setup.samples["evaluation"])
    with search.watch.phase("confirmation") as progress:
        if search.goal.kind == "budget":
            known = rivals(search, setup.space)
            outcome = decide_as_banked(search, known, progress, parts)
        else:
            outcome = _sized(search, progress, parts)
    search.seconds["confirm"] = confirming.seconds
    return outcome


def _sized(search: Search, progress: Tell, parts: tuple[int, ...]) -> Outcome:
    """Finalists of a front or of a score to keep, whose size is what is chosen."""
    shipped = Shipped(search)
    sized = partial(
        confirm,
        search.setup.space,
        search.records,
        search.goal,
        evaluate=search.evaluate,
        finish=lambda measured: finished(search, measured, shipped),
        rivals=lambda inside: rivals(search, inside),
        most=search.deadline.finalists(search),
        progress=progress,
        seed=search.setup.asked.seed,
        strata=parts,
    )
    return search.deadline.with_or_without(search, sized)


def finished(search: Search, measured: Measured, shipped: Shipped) -> Measured:
    """An allocation quantized once more in sequence, if that is possible and better.

    Tuned, where its search score is no lower then.
    """
    allocation, asked = measured.allocation, search.setup.asked
    if not asked.finalize or not shipped.has(allocation, FINALIZED):
        return measured
    if not search.deadline.finalizes(search):
        return measured
    again = shipped.evaluated(allocation, shipped.best(allocation))
    return again if again.mean > measured.mean else measured
