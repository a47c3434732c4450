"""The end of a search for a budget: what would be shipped is compared, and chosen.

Everything that may be recommended is quantized in sequence before it is compared, and
scored on the search set under these weights: the best that were measured, the best
uniform allocation of each method, the rivals, and candidates from elsewhere. They race:
few samples first, and what cannot be the best any more stops there. What is left is
refined and tuned; only then the last few meet on the evaluation set, beside full
precision and the rivals, each under the weights that its search scores chose.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allocator.bench.finalize import BANK, FINALIZED, TUNED
from allocator.core.records import ADDITIVE, EVEN_MIX, LINEAR_RIVALS
from allocator.core.told import Finalist
from allocator.search.paired import could_be_best
from allocator.search.rivals import best_uniform, candidates
from allocator.search.rungs import spread_out
from allocator.search.shipped import Shipped, mean
from evals.taskset import strata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.search.running import Search
    from allocator.search.shipped import Values

# samples of the first rung of the race, where the search set has twice as many
FEW = 250
# of what the search has measured, the best so many: bank scores rank finalized ones
# badly, and each costs a finalization (studies/LOG.md)
BEST = 3
# of a large model, whose finalizations take minutes, and of uniform allocations as well
LARGE_BEST = 1
# allocations that meet on the evaluation set, beside those they are compared with
LAST = 2
# of equal scores the first
OWN = (TUNED, FINALIZED)
MEASURED, UNIFORM, REFINED = "measured", "uniform", "refined"


@dataclass
class Contender:
    """An allocation that may be recommended.

    `kinds` say what it is: measured by the search, uniform, a rival by its name,
    refined. `scores` are those of `size` samples of the search set, by weights.
    """

    allocation: Allocation
    kinds: list[str]
    bpw: float
    size: int = 0
    scores: dict[str, Values] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """Finalized or tuned, by their scores; the bank's where there are no others.

        What a search has measured was chosen by its scores under the bank's weights, on
        these very samples: they flatter it.
        """
        known = [weights for weights in OWN if self.scores.get(weights)]
        return max(known, key=lambda each: mean(self.scores[each]), default=BANK)

    @property
    def values(self) -> Values:
        """Scores under these weights; empty where it has none."""
        return self.scores.get(self.weights, ())

    @property
    def rank(self) -> tuple[float, float]:
        """By its score, the smaller one of equals."""
        return mean(self.values), -self.bpw

    def told(self) -> Finalist:
        """What is told of it."""
        scores = {name: mean(own) for name, own in self.scores.items() if own}
        return Finalist(
            self.allocation.digest,
            tuple(self.kinds),
            self.bpw,
            self.size,
            tuple(scores.items()),
            self.weights,
        )


@dataclass
class Finals:
    """Contenders, in order: what has to be compared comes first."""

    search: Search
    shipped: Shipped
    contenders: list[Contender] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Samples of the search set."""
        return len(self.search.setup.samples["search"])

    def strata(self, size: int) -> tuple[int, ...]:
        """Sizes of the parts of so many samples of the search set."""
        setup = self.search.setup
        return strata(setup.task, spread_out(setup.samples["search"], size))

    def add(self, allocation: Allocation, kind: str) -> Contender:
        """An allocation as a contender, once."""
        for known in self.contenders:
            if known.allocation.digest == allocation.digest:
                known.kinds += [] if kind in known.kinds else [kind]
                return known
        made = Contender(allocation, [kind], self.search.setup.space.bpw(allocation))
        self.contenders.append(made)
        return made

    def score(self, contender: Contender, size: int, weights: str = FINALIZED) -> None:
        """Score a contender; with the bank's weights where there are no others."""
        if contender.size != size:
            contender.size, contender.scores = size, {}
        if not self.shipped.has(contender.allocation, weights):
            weights = BANK
        found = self.shipped.values(contender.allocation, weights, size)
        if not found and weights == FINALIZED:
            weights = BANK
            found = self.shipped.values(contender.allocation, weights, size)
        contender.scores[weights] = found

    def race(self) -> bool:
        """Score all contenders; what cannot be best any more stops at few samples.

        False where there was no time for it: the bank's cells count for all of them.
        """
        self.search.deadline.others = LAST + len(
            {k for c in self.contenders for k in c.kinds}
        )
        return self.search.deadline.attempt(self._race) or False

    def _race(self) -> bool:
        rungs = [*([FEW] if self.total >= 2 * FEW else []), self.total]
        left = list(self.contenders)
        with self.search.watch.phase("finalists") as progress:
            for rung, size in enumerate(rungs):
                count, done = len(rungs) * len(left), rung * len(left)
                for some in self.search.ahead.portions(left):
                    self._ahead([c for c in some if c.size or self.has_time(c)], size)
                    for each in some:
                        progress(done, count)
                        done += 1
                        if each.size or self.has_time(each):
                            self.score(each, size)
                kept = could_be_best([c.values for c in left], self.strata(size))
                left = [left[place] for place in kept]
            for each in left:
                # what finalizing was worth; most were measured by the search
                self.score(each, each.size, BANK)
            progress(1, 1)
        return True

    def _ahead(
        self, contenders: Sequence[Contender], size: int, weights: str = FINALIZED
    ) -> None:
        """Have a crew begin what is about to be scored."""
        has, wanted = self.shipped.has, [c.allocation for c in contenders]
        pairs = [(each, weights if has(each, weights) else BANK) for each in wanted]
        self.shipped.values_ahead(pairs, size)

    def has_time(self, contender: Contender) -> bool:
        """Whether one more may be finalized; for what is compared time was kept."""
        must = set(contender.kinds) != {MEASURED} or contender is self.contenders[0]
        return must or self.search.deadline.allows(self.search, 1)

    def compared(self) -> list[Contender]:
        """What is reported beside the recommendation, if it was scored.

        The best uniform allocation, the rivals (of those over single linears the best)
        and candidates, by the search set.
        """
        found: dict[str, Contender] = {}
        for each in sorted(self.contenders, key=lambda c: c.rank, reverse=True):
            for kind in each.kinds:
                # one of several: the best
                name = "linear" if kind in LINEAR_RIVALS else kind
                if each.size and name not in (MEASURED, REFINED):
                    found.setdefault(name, each)
        return list({each.allocation.digest: each for each in found.values()}.values())

    def last(self) -> list[Contender]:
        """The best on the whole search set, and what may be as good, at most LAST."""
        whole = [c for c in self.contenders if c.size == self.total and c.values]
        ranked = sorted(whole, key=lambda c: c.rank, reverse=True)[:LAST]
        kept = could_be_best([c.values for c in ranked], self.strata(self.total))
        return [ranked[place] for place in kept]

    def tune(self) -> None:
        """Tune the last, and what they are compared with, all or none of them.

        All alike, so that the comparison is fair; tuned weights count where they score
        no less on the search set.
        """
        wanted = {c.allocation.digest: c for c in (*self.last(), *self.compared())}
        if not self.search.deadline.allows(self.search, len(wanted), TUNED):
            self.search.watch.say("no time is left to tune: finalized weights count")
            return

        def tune() -> bool:
            sizes = {each.size for each in wanted.values() if each.size}
            for size in sorted(sizes, reverse=True):
                own = [each for each in wanted.values() if each.size == size]
                self._ahead(own, size, TUNED)
            with self.search.watch.phase("tuning") as progress:
                for done, each in enumerate(wanted.values()):
                    progress(done, len(wanted))
                    if each.size and self.shipped.has(each.allocation, TUNED):
                        self.score(each, each.size, TUNED)
                progress(len(wanted), len(wanted))
            return True

        if not self.search.deadline.attempt(tune):
            for each in wanted.values():
                each.scores.pop(TUNED, None)
            self.search.watch.say(
                "time is up before all is tuned: finalized weights do"
            )


def entered(search: Search, rivals: Mapping[str, Allocation]) -> Finals:
    """The contenders of a search: the best that was measured comes first.

    Then the rivals, the best uniform allocation of each method (of a large model the
    best of all), what was imported, and others that were measured.
    """
    finals = Finals(search, Shipped(search))
    space, records = search.setup.space, search.records
    few = LARGE_BEST if space.spec.is_large else None
    measured = search.goal.finalists(records)[: few or BEST]
    for record in measured[:1]:
        finals.add(record.allocation, MEASURED)
    for kind, allocation in rivals.items():
        finals.add(allocation, kind)
    for allocation in best_uniform(space, records)[:few]:
        finals.add(allocation, UNIFORM)
    for name, allocation in candidates(search).items():
        finals.add(allocation, f"candidate {name}")
    for record in measured:
        finals.add(record.allocation, MEASURED)
    if space.fits(space.full):
        finals.add(space.full, MEASURED)
    return finals


def rivals_in(contenders: Sequence[Contender]) -> dict[str, Contender]:
    """The rivals among what is compared, by kind, the two best known ones first."""
    kinds = {
        kind: each
        for each in contenders
        for kind in each.kinds
        if kind not in (MEASURED, UNIFORM, REFINED)
    }
    first = [kind for kind in (EVEN_MIX, ADDITIVE) if kind in kinds]
    return {kind: kinds[kind] for kind in (*first, *kinds)}
