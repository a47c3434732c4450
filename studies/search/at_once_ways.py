"""What a strategy is told of proposals that have no score yet, in the ways compared.

A lie gives each the least, the mean or the best of what is known (constant liar,
Ginsbourger, Le Riche and Carraro 2010); a fantasy what the strategy's own model
predicts, or a draw of it; `barred` says nothing but that it may not come again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.strategies._rows import Rows
from surrogate.process import GaussianProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.strategies._base import Candidate, Known, Strategy

LIES = {"least": np.min, "mean": np.mean, "best": np.max}
FANTASIES = ("predicted", "drawn")
WAYS = ("barred", *LIES, *FANTASIES)


class Told:
    """A strategy that is told something of what is pending.

    Args:
        strategy: whom it is told.
        way: one of `WAYS`.
    """

    def __init__(self, strategy: Strategy, way: str) -> None:
        self.strategy = strategy
        self.way = way

    @property
    def offspring(self) -> int:
        """As the strategy's."""
        return self.strategy.offspring

    def ask(self, known: Known, count: int = 1) -> list[Candidate]:
        """Candidates, with scores made up for what is pending."""
        seed = [self.strategy.seed, len(known.measured)]
        seed += [len(known.pending)] if known.pending else []
        # the strategy itself is to make up nothing
        told = replace(self._told(known.finite), pending=())
        return self.strategy.candidates(told, count, np.random.default_rng(seed))

    def _told(self, known: Known) -> Known:
        known = known.barring
        if self.way == "barred" or not known.pending or not known.measured:
            return known
        made_up = tuple(zip(known.pending, self._scores(known), strict=True))
        if known.estimated:
            return replace(known, estimated=(*known.estimated, *made_up))
        return replace(known, measured=(*known.measured, *made_up))

    def _scores(self, known: Known) -> list[float]:
        scores = [score for _, score in known.estimated or known.measured]
        if self.way in LIES:
            return [float(LIES[self.way](scores))] * len(known.pending)
        seeds = [self.strategy.seed, len(known.measured), len(known.pending)]
        rng = np.random.default_rng(seeds)
        mean, spread = self._predictions(known)
        if self.way == "drawn":
            mean = rng.normal(mean, np.maximum(spread, 0.0))
        return [float(each) for each in mean]

    def _predictions(self, known: Known) -> tuple[Any, Any]:
        """Mean and spread that the strategy's own model gives what is pending."""
        source: Any = self.strategy._source  # type: ignore[attr-defined]
        if isinstance(source, Rows):
            return of_rows(source, known)
        ranked = source._ranked(known, list(known.pending))
        by_digest = {each.allocation.digest: each for each in ranked}
        found = [by_digest[each.digest] for each in known.pending]
        return [c.predicted for c in found], [c.spread for c in found]


def of_rows(source: Rows, known: Known) -> tuple[Any, Any]:
    """The same of the rows of a table."""
    model = GaussianProcess(seed=source_seed(known.pending))
    seen = [allocation for allocation, _ in known.measured]
    model.fit(source._features(seen), [score for _, score in known.measured])
    return model.predict(source._features(list(known.pending)))


def source_seed(pending: Sequence[Allocation]) -> int:
    """A seed of a model's settings that differs from one proposal to the next."""
    return len(pending)
