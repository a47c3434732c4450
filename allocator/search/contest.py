"""What the evaluation set says of what was chosen on it, with intervals that know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from evals.interval import Draws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.records import Interval
    from allocator.search.goals import Goal
    from allocator.search.measured import Measured


@dataclass
class Contest:
    """All that is measured on the evaluation set while something is chosen there.

    `evaluate` and `finish` are as in `confirm`. `full` is full precision, which takes
    part only where it is noted.
    """

    goal: Goal
    full: Measured
    evaluate: Callable[[Allocation], Measured]
    finish: Callable[[Measured], Measured]
    seed: int
    strata: Sequence[int] = ()

    def __post_init__(self) -> None:
        self._seen: dict[tuple[str, str | None], Measured] = {}
        self._done: dict[str, Measured] = {}

    def note(self, measured: Measured) -> Measured:
        """Let something measured take part, if it has a score, and return it."""
        if measured.failed:
            return measured
        return self._seen.setdefault(_key(measured), measured)

    def measured(self, allocation: Allocation) -> Measured:
        """An allocation with the bank's weights."""
        return self.note(self.evaluate(allocation))

    def finished(self, bank: Measured) -> Measured:
        """The same with the better of two kinds of weights, or those it has to keep.

        What has no score stays as it is.
        """
        if bank.failed:
            return bank
        digest = bank.allocation.digest
        if digest not in self._done:
            self._done[digest] = self.note(self.finish(bank))
        return self._done[digest]

    def choose(self, surest_first: Sequence[Measured]) -> Measured:
        """What the goal chooses, finished where that does what was asked as well."""
        bank = self.goal.choose(surest_first, self.full)
        chosen = self.goal.choose([bank, self.finished(bank)], self.full)
        self._done[chosen.allocation.digest] = chosen
        return chosen

    def last(self, bank: Measured) -> Measured:
        """As it was finished, or as it was measured where it was not."""
        return self._done.get(bank.allocation.digest, bank)

    def score(self, winner: Measured) -> Interval:
        """The winner's score."""
        return self._draws.score(self._at(winner), self._among)

    def retained(self, winner: Measured) -> Interval:
        """The winner's share of full precision's score."""
        return self._draws.share(self._at(winner), len(self._seen), self._among)

    def full_precision(self) -> Interval:
        """Full precision's score, which nobody chose."""
        return self._draws.score(len(self._seen))

    def versus(
        self, winner: Measured, rival: Measured, others: Iterable[Measured] = ()
    ) -> Interval:
        """How much the winner gains over a rival that was chosen among others.

        Of an allocation with two kinds of weights, the better ones were chosen.
        """
        beside = {rival.allocation.digest, *(m.allocation.digest for m in others)}
        rows = [at for at, (digest, _) in enumerate(self._seen) if digest in beside]
        return self._draws.difference(
            self._at(winner), self._at(rival), self._among, self._draws.winners(rows)
        )

    def _at(self, measured: Measured) -> int:
        return list(self._seen).index(_key(measured))

    @cached_property
    def _draws(self) -> Draws:
        rows = [each.values for each in (*self._seen.values(), self.full)]
        return Draws.of(rows, self.seed, self.strata)

    @cached_property
    def _among(self) -> set[int]:
        """Those that some draw of the samples would have chosen."""
        return self.goal.would_choose(
            list(self._seen.values()), self.full, self._draws.drawn
        )


def _key(measured: Measured) -> tuple[str, str | None]:
    return measured.allocation.digest, measured.finalized
