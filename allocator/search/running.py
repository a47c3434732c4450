"""A search under way: what is measured goes into the study, and is measured once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from allocator.bench.finalize import BANK
from allocator.core.account import Account
from allocator.core.clock import Clock
from allocator.core.errors import StudyError
from allocator.search.crew.ahead import Ahead
from allocator.search.crew.crew import Crew
from allocator.search.deadline import Deadline
from allocator.search.evaluating import evaluated, looks_of
from allocator.search.goals import goal_of
from allocator.search.replies import KeptReplies
from allocator.search.rungs import Rungs, spread_out
from allocator.space.model import limit_of
from allocator.study.entry import not_finite
from allocator.study.looks import LADDER, SCORE
from allocator.study.proposed import proposed_in
from evals.taskset import strata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample
    from allocator.core.records import TrialRecord
    from allocator.core.watch import Watch
    from allocator.search.goals import Goal
    from allocator.search.measured import Measured
    from allocator.study.journal import Journal


@dataclass
class Search:
    """A running search: the request, the study, the model on the bench.

    `evaluated` counts samples that `seen` allocations, by digest, were run on;
    `distrusts` says that divergence was seen not to predict the task; `spent_limits`
    are budgets, in bits per weight, within which nothing new is left; `skipped` are
    digests that were proposed although they were taken; `left` are numbers of trials
    that dead processes left; `awaited` are baselines, with their kind and by digest,
    that another process measures; `confirmed` tells by digest how many samples of the
    evaluation set were scored, and `looks` which are scored first. `account` tells what
    each phase took, `crew` does pieces of it beside this process.
    """

    setup: Setup
    journal: Journal
    bench: Workbench
    watch: Watch
    clock: Clock
    seconds: dict[str, float] = field(default_factory=dict)
    evaluated: int = 0
    seen: set[str] = field(default_factory=set)
    infeasible: int = 0
    distrusts: bool = False
    spent_limits: set[float] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    awaited: dict[str, tuple[Allocation, str]] = field(default_factory=dict)
    confirmed: dict[str, int] = field(default_factory=dict)
    has_raced: bool = False
    crew: Crew = field(default_factory=Crew)
    account: Account = field(init=False)

    def __post_init__(self) -> None:
        setup = self.setup
        self.account = Account(self.bench.cost, self.clock)
        parts = strata(setup.task, setup.samples["evaluation"])
        self.looks = looks_of(self, parts)
        self.goal: Goal = goal_of(
            setup.asked,
            setup.space,
            parts,
            lambda: self.journal.sample_scores(setup.space),
        )
        total = len(self.setup.samples["search"])
        # a rung that is not much cheaper than the full measurement is none
        ladder = tuple(rung for rung in LADDER if 2 * rung[1] <= total)
        self.rungs = Rungs(self._look, self.bench.order, ladder, self._look_ahead)
        self.rungs.total = total
        self.rungs.recall(self.journal.looks(self.setup.space))
        self.judge()
        self.deadline = Deadline(self.clock, self.setup.asked.seconds)
        self.replies = KeptReplies(self.journal, self._replied)
        self.bench.keeper = self.replies

    @cached_property
    def ahead(self) -> Ahead:
        """What its crew does before it is asked for."""
        # torch comes with it
        from allocator.bench.pieces import Pieces

        pieces = Pieces(self.setup, self.bench, self.watch)
        return Ahead(self.crew, pieces, self.replies, lambda: self.deadline.check(self))

    def judge(self) -> None:
        """Tell the rungs what was proposed so far, by any process."""
        self.rungs.proposed = proposed_in(self.journal, self.setup.space)

    def _replied(self, samples: int, seconds: float) -> None:
        self.deadline.scored(samples, seconds)
        self.deadline.check(self)

    def spent(self, what: str, since: float) -> None:
        """Add the time since a reading of the clock to what something took."""
        taken = self.clock.seconds - since
        self.seconds[what] = self.seconds.get(what, 0.0) + taken

    @property
    def made(self) -> int:
        """Proposals for this goal, finished or under way in any process."""
        return self.journal.made(self.setup.space, self.goal.name)

    @property
    def failures(self) -> dict[str, str]:
        """Why what was measured on the search set has no score, by digest."""
        return self.journal.failures(self.setup.space)

    @property
    def lost(self) -> list[Allocation]:
        """What was looked at or measured in vain: it gave no finite number."""
        entries = self.journal.entries(self.setup.space)
        scored = {entry.digest for entry in entries if entry.score is not None}
        looked = [a for a in self.rungs.overflowed if a.digest not in scored]
        return [*looked, *(entry.allocation for entry in entries if entry.failure)]

    @property
    def records(self) -> list[TrialRecord]:
        """Everything measured in full on the search set."""
        return self.journal.records(self.setup.space)

    def count(self, allocation: Allocation, samples: int) -> None:
        """Note that an allocation was run on samples."""
        self.evaluated += samples
        self.seen.add(allocation.digest)

    def score(
        self,
        allocation: Allocation,
        samples: Sequence[Sample],
        bench: Workbench | None = None,
    ) -> Any:
        """Score an allocation; `bench` is one whose weights are not the bank's."""
        bench = bench or self.bench
        return self._ran(bench, bench.score, allocation, samples)

    def replied(
        self, allocation: Allocation, samples: Sequence[Sample], bench: Workbench
    ) -> Any:
        """What a bench makes of samples under an allocation, not scored yet."""
        return self._ran(bench, bench.predictions, allocation, samples)

    def _ran(
        self,
        bench: Workbench,
        what: Callable[..., Any],
        allocation: Allocation,
        samples: Sequence[Sample],
    ) -> Any:
        self.count(allocation, len(samples))
        if bench is self.bench:
            self.ahead.replies_of([(allocation, samples, BANK)])
        since, deadline = Clock(), self.deadline
        count, seconds = deadline.samples, deadline.scoring
        found = what(allocation, samples)
        # a ranking is told of as a whole, and of other batches what comes around them
        told = deadline.samples - count
        beside = max(0.0, since.seconds - (deadline.scoring - seconds))
        deadline.scored(0 if told else len(samples), beside)
        return found

    def _look(
        self,
        allocation: Allocation,
        kind: str,
        size: int,
        ahead: Allocation | None = None,
    ) -> float:
        """A cheap look at an allocation, on a few samples of the search set."""
        self.deadline.check(self)
        few = spread_out(self.setup.samples["search"], size)
        if kind == SCORE:
            score = self.score(allocation, few)
            self.rungs.learn_parts(allocation, size, score.values)
            return float(score.mean)
        self.count(allocation, len(few))
        known = self.ahead.look(self.bench, allocation, few)
        if known is not None:
            return known
        return self.bench.divergence(allocation, few, ahead)

    def _look_ahead(
        self, allocations: Sequence[Allocation], kind: str, size: int
    ) -> None:
        """Have the crew take looks that are about to be taken."""
        few = spread_out(self.setup.samples["search"], size)
        if kind == SCORE:
            self.ahead.replies_of([(each, few, BANK) for each in allocations])
        else:
            self.ahead.looks_at(allocations, few)

    def look_at(self, allocation: Allocation) -> None:
        """Take the looks of all rungs, for what is measured in full anyway."""
        self.rungs.fresh.clear()
        self.rungs.look_at(allocation)
        self.journal.keep_looks(
            self.setup.space, allocation.digest, self.goal.name, self.rungs.fresh
        )

    def measure(
        self,
        allocation: Allocation,
        kind: str,
        about: Mapping[str, Any] | None = None,
        check: Callable[[Any], object] = lambda _: None,
    ) -> bool:
        """Measure an allocation on the search set, once and for all.

        False where it was measured, or another process began before this one. Nothing
        is kept where `check` raises when it is shown the score. A score that is no
        finite number fails the trial, which is said.
        """
        space, samples = self.setup.space, self.setup.samples["search"]
        known = {
            "limit": limit_of(space),
            "kind": kind,
            "budget": self.goal.name if kind == "proposal" else None,
            "applied": self.bench.applied(allocation),
            **self.rungs.of(allocation),
            **(about or {}),
        }
        number = self.journal.begin(space, allocation, known)
        if number is None:
            return False
        try:
            with self.journal.at_work(number):
                score = self.score(allocation, samples)
            check(score)
        except BaseException:
            # what went wrong counts; a trial that cannot be given up is stale later
            with suppress(StudyError):
                self.journal.fail(number)
            raise
        names = [sample.id for sample in samples]
        if reason := not_finite(score.mean, score.values, names):
            self.journal.fail(number, reason)
            self.watch.say(f"{self.name_of(allocation)} {reason}: it counts as failed")
            return True
        if kind == "proposal" and self.setup.asked.rungs:
            self._keep_parts(allocation, score.values)
        self.journal.complete(number, score.mean, score.values)
        return True

    def _keep_parts(self, allocation: Allocation, values: Sequence[float]) -> None:
        """Keep what the rungs' samples contributed to a proposal's score."""
        self.rungs.fresh.clear()
        total = len(self.setup.samples["search"])
        self.rungs.learn_parts(allocation, total, values)
        self.journal.keep_looks(
            self.setup.space, allocation.digest, self.goal.name, self.rungs.fresh
        )

    def name_of(self, allocation: Allocation) -> str:
        """An allocation in a few words."""
        choices = {choice for _, choice in allocation}
        if len(choices) == 1:
            return f"the uniform allocation {choices.pop()}"
        return f"allocation {allocation.digest}"

    def evaluate(
        self,
        allocation: Allocation,
        bench: Workbench | None = None,
        size: int | None = None,
    ) -> Measured:
        """Measure an allocation on the evaluation set, or recall that it was.

        On all of it, or on the first `size` samples of `looks`, of which those are
        scored that were not yet. `bench` is one whose weights are not the bank's. What
        scored no finite number, here or on the search set, has no values; that is said.
        """
        wanted = size or self.looks.total
        found = evaluated(self, allocation, bench or self.bench, wanted)
        count = self.looks.total if found.failed else found.samples
        known = self.confirmed.get(allocation.digest, 0)
        self.confirmed[allocation.digest] = max(count, known)
        return found
