"""A score to keep: the smallest allocation that surely does, and where to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import NotReachedError
from allocator.core.records import SureShare
from allocator.core.study import CONFIDENCE
from allocator.space.model import pins_name, within
from evals.interval import surplus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from allocator.core.records import TrialRecord
    from allocator.search.measured import Measured
    from allocator.space.model import ModelSpace

    Floats = NDArray[np.float64]

# proposals that may miss a score within a budget before a wider one is tried
MISSES = 3
# margins on the search set, in what the evaluation set will ask for: what a search for
# a score aims at, and what its finalists have
AIMS = (2.0, 1.0)
LEVELS = (0.5, 1.0, 1.5, 2.0, 3.0)
# ratio of two sizes that are no longer told apart
CLOSE = 1.004


@dataclass(frozen=True)
class KeepScore:
    """The smallest allocation that surely keeps a share of the full-precision score.

    Surely: the share is below what is kept with probability `confidence`. The size is
    bisected: a budget within which some proposals miss the score makes room for a wider
    one, a smaller size that keeps it for a narrower one.

    `strata` are the numbers of evaluation samples of each task, `values` gives what is
    known of the search set sample by sample, by digest.
    """

    inside: ModelSpace
    share: float
    confidence: float = CONFIDENCE
    strata: tuple[int, ...] = ()
    values: Callable[[], Mapping[str, Sequence[float]]] = dict
    kind: str = "min-score"

    @property
    def name(self) -> str:
        """One for each share, confidence and scope, under the same pins."""
        asked = f"{self.share:g} at {self.confidence!r}"
        return f"min-score {asked}/{self.inside.budget.scope}{pins_name(self.inside)}"

    def space(
        self, records: Sequence[TrialRecord], spent: Collection[float] = ()
    ) -> ModelSpace | None:
        """Between the widest budget that missed and the smallest size that kept it.

        Where nothing is left between them, the same by the next margin.
        """
        tried: dict[float, int] = {}
        for record in records:
            # what no look chose says nothing against a budget
            if record.budget != self.name or record.control:
                continue
            if record.limit is not None:
                tried[record.limit] = tried.get(record.limit, 0) + 1
        for level in AIMS:
            found = self._between(self._reached(records, level), tried, spent)
            if found is not None:
                return within(self.inside, found)
        return None

    def _between(
        self,
        reached: Sequence[TrialRecord],
        tried: Mapping[float, int],
        spent: Collection[float],
    ) -> float | None:
        """The next budget of a bisection, in bits per weight; None where it ended."""
        low = self.inside.bpw(self.inside.smallest)
        high = self.inside.bpw(self.inside.widest)
        if reached:
            high = min(high, reached[0].bpw)
        # a budget at or above what kept the score has not missed it
        over = [*spent, *(at for at, n in tried.items() if n >= MISSES)]
        low = max([low, *(at for at in over if at < high)])
        if high / low < CLOSE:
            return None
        # where a budget is under way it is gone on with, so that restarts agree
        begun = [at for at, n in tried.items() if n < MISSES and low < at < high]
        return max(begun) if begun else (low * high) ** 0.5

    def best(self, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """The smallest that seems to keep it; until there is one, the highest score."""
        reached = self._reached(records, AIMS[0]) or self.finalists(records)
        return next(iter(reached), None)

    def finalists(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The smallest by ever safer margins; where none keeps it, the highest scores.

        On the evaluation set some fall short of what they had on the search set: the
        smallest that may do comes with larger ones that surely will.
        """
        steps = [self._reached(records, level)[:1] for level in LEVELS]
        reached = {r.allocation.digest: r for step in steps for r in step}
        if reached:
            return list(reached.values())
        allowed = [r for r in records if self.inside.fits(r.allocation)]
        return sorted(allowed, key=lambda r: (-r.score, r.bpw))[: len(LEVELS)]

    def choose(self, measured: Sequence[Measured], full: Measured) -> Measured:
        """The smallest that surely keeps the score on the evaluation set.

        They are tested in the order given, from that of which most is expected, until
        one fails: so no more than 1 - `confidence` of all choices are wrong, however
        many are tested (fixed sequence testing: Angelopoulos et al., "Learn then Test",
        arXiv 2110.01052). What is larger than one that passed need not be tested.
        """
        kept: Measured | None = None
        for each in measured:
            if kept is not None and self._rank(each) >= self._rank(kept):
                continue
            if self.surplus(each, full) < 0:
                break
            kept = each
        if kept is None:
            raise NotReachedError(self._missed(measured, full))
        return kept

    def would_choose(
        self, measured: Sequence[Measured], full: Measured, drawn: Floats
    ) -> set[int]:
        """The smallest of those that surely keep the score."""
        ranked = sorted(range(len(measured)), key=lambda at: self._rank(measured[at]))
        beyond = drawn[:, ranked] - self.share * drawn[:, -1:]
        # in a draw, as much is asked beyond the share as of all samples
        own = [m.mean - self.share * full.mean for m in measured]
        asked = [own[at] - self.surplus(measured[at], full) for at in ranked]
        passed = beyond >= np.array(asked)
        return {ranked[at] for at in np.unique(passed.argmax(axis=1))}

    def sure(self, measured: Measured, full: Measured) -> SureShare:
        """The share of the score that it surely keeps."""
        share = self.share + self.surplus(measured, full) / full.mean
        return SureShare(share, self.confidence)

    def surplus(self, measured: Measured, full: Measured) -> float:
        """What is surely left on the evaluation set beyond the share asked for."""
        known = measured.values, full.values, self.share, self.confidence
        return surplus(*known, strata=self.strata)

    def _rank(self, measured: Measured) -> tuple[float, float]:
        """The smallest first, the best of equals."""
        return self.inside.bpw(measured.allocation), -measured.mean

    def _missed(self, measured: Sequence[Measured], full: Measured) -> str:
        """Why nothing is chosen."""
        best = max(measured, key=lambda m: m.mean)
        sure = self.sure(best, full).share
        size = self.inside.bpw(best.allocation)
        return (
            f"nothing kept {100 * self.share:g} % of full precision's {full.mean:.2f} "
            f"with probability {100 * self.confidence:g} %: the best found scores "
            f"{best.mean:.2f} ({100 * best.mean / full.mean:.1f} %, surely "
            f"{100 * sure:.1f} %) at {size:.3f} bpw; allow more widths, more "
            f"--trials, {'other pins, ' if self.inside.pinned else ''}or ask for less "
            "or with less --confidence"
        )

    def _reached(
        self, records: Sequence[TrialRecord], level: float
    ) -> list[TrialRecord]:
        """What keeps the score on the search set by a margin, the smallest first.

        The margin is a multiple of what the evaluation set will ask for.
        """
        full = [r for r in records if r.kind == "full"]
        if not full:
            return []
        values = self.values()
        whole = values.get(full[0].allocation.digest, ())
        fitting = [r for r in records if self.inside.fits(r.allocation)]
        kept = []
        for record in fitting:
            beyond, margin = record.score - self.share * full[0].score, 0.0
            own = values.get(record.allocation.digest, ())
            if len(own) and len(whole) and self.strata:
                known = own, whole, self.share, self.confidence
                sure = surplus(*known, size=sum(self.strata))
                margin = level * (beyond - sure)
            if beyond >= margin:
                kept.append(record)
        return sorted(kept, key=lambda r: (r.bpw, -r.score))
