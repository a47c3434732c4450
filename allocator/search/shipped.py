"""What an allocation scores under each kind of weights that it may be shipped with.

Weights of the bank, finalized ones, and tuned ones. Scores are of the search set, so
that the evaluation set is left for what is chosen by them. Each is kept with the study,
by the cells that were in place and the number of samples, and is taken once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from allocator.bench.finalize import (
    BANK,
    FINALIZED,
    NOT_FINALIZED,
    TUNED,
    discard_finalized,
    finalize,
    finalized_digest,
    is_finalized,
)
from allocator.core.clock import Clock
from allocator.core.errors import BankError, reason
from allocator.search.deadline import Watched
from allocator.search.evaluating import known_samples, lacking
from allocator.search.rungs import spread_out
from allocator.study.entry import not_finite
from allocator.study.per_sample import decode_scores, encode_scores
from quant.passes import Passes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample
    from allocator.search.measured import Measured
    from allocator.search.running import Search

    Values = tuple[float, ...]

Found = TypeVar("Found")

IN_SEQUENCE = "quantized in sequence"
# attributes of a study: by weights their cells, by cells and samples their scores
CELLS, SCORES = "cells of:", "search set:"


@dataclass
class Shipped:
    """Scores of allocations by the weights they would be shipped with.

    `failed` has the digests of what cannot be quantized in sequence: it keeps the
    bank's weights. `passes` are what finalizations share.
    """

    search: Search
    failed: set[tuple[str, str]] = field(default_factory=set)
    passes: Passes = field(default_factory=Passes)
    _opened: dict[str, Any] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _needed: set[str] = field(default_factory=set)

    @property
    def tunes(self) -> bool:
        """Whether weights are tuned."""
        setup = self.search.setup
        return setup.asked.tunes(setup.model.parameters)

    def has(self, allocation: Allocation, weights: str) -> bool:
        """Whether there are, or can be, such weights of an allocation."""
        if weights == BANK:
            return True
        low = any(choice.method is not None for _, choice in allocation)
        return low and (allocation.digest, weights) not in self.failed

    def values(self, allocation: Allocation, weights: str, size: int) -> Values:
        """Scores of so many samples of the search set; empty where it has none.

        Weights that are missing are made, which may fail: that is said.
        """
        if weights == BANK:
            return self._scored(allocation, self.search.bench, size)
        if not self.has(allocation, weights):
            return ()
        journal, name = self.search.journal, self._name(allocation, weights)
        cells = journal.attribute(CELLS + name)
        kept = cells and journal.attribute(_key(cells, size))
        if kept is not None:
            return _recalled(kept)

        def score(bench: Workbench) -> Values:
            if cells != (now := bench.applied(allocation)):
                journal.set_attribute(CELLS + name, now)
            return self._scored(allocation, bench, size)

        return self._under(allocation, weights, score) or ()

    def best(self, allocation: Allocation) -> str:
        """Tuned weights, where those are made and score no less than finalized ones."""
        if not self.tunes:
            return FINALIZED
        size = len(self.search.setup.samples["search"])
        tuned = self.values(allocation, TUNED, size)
        plain = self.values(allocation, FINALIZED, size)
        return TUNED if tuned and mean(tuned) >= mean(plain) else FINALIZED

    def evaluated(
        self, allocation: Allocation, weights: str, size: int | None = None
    ) -> Measured:
        """An allocation on the evaluation set; with the bank's weights if need be.

        On the first `size` samples of its order, or on all.
        """
        search = self.search
        found = None
        if weights != BANK and self.has(allocation, weights):
            found = self._under(
                allocation,
                weights,
                lambda bench: search.evaluate(allocation, bench, size),
            )
        if found is None or found.failed:
            return search.evaluate(allocation, size=size)
        self._needed.add(self._name(allocation, weights))
        digest = self._weights(allocation, weights).digest
        return replace(found, finalized=digest, tuned=weights == TUNED)

    def under(
        self, measured: Measured, what: Callable[[Workbench], Found]
    ) -> Found | None:
        """What something finds under the weights that were measured.

        None where they cannot be had any more.
        """
        if measured.finalized is None:
            return what(self.search.bench)
        weights = TUNED if measured.tuned else FINALIZED
        return self._under(measured.allocation, weights, what)

    def known(self, allocation: Allocation, weights: str) -> int:
        """On how many samples of the evaluation set such weights were scored."""
        if weights == BANK or not self.has(allocation, weights):
            cells = self.search.bench.applied(allocation)
        else:
            name = CELLS + self._name(allocation, weights)
            cells = self.search.journal.attribute(name) or ""
        return known_samples(self.search, cells)

    def ahead(
        self, wanted: Sequence[tuple[Allocation, str]], samples: Sequence[Sample]
    ) -> None:
        """Have a crew reply to samples what is about to be scored, under its weights.

        It makes weights that are missing, as this process does those it needs first.
        """
        search = self.search
        search.ahead.pieces.make = self._weights
        search.ahead.replies_of([(a, samples, w) for a, w in wanted])

    def values_ahead(self, wanted: Sequence[tuple[Allocation, str]], size: int) -> None:
        """The same for what `values` is about to be asked for."""
        if not self.search.crew.size:
            return
        samples = spread_out(self.search.setup.samples["search"], size)
        lacking = [at for at in wanted if self._lacks(*at, size)]
        self.ahead(lacking, samples)

    def evaluated_ahead(
        self, wanted: Sequence[tuple[Allocation, str]], size: int
    ) -> None:
        """The same for what `evaluated` is about to be asked for."""
        if not self.search.crew.size:
            return
        by_known: dict[int, list[tuple[Allocation, str]]] = {}
        for allocation, weights in wanted:
            kind = weights if self.has(allocation, weights) else BANK
            known = self.known(allocation, kind)
            if known < size:
                by_known.setdefault(known, []).append((allocation, kind))
        for known, own in by_known.items():
            self.ahead(own, lacking(self.search, known, size))

    def _lacks(self, allocation: Allocation, weights: str, size: int) -> bool:
        """Whether a score is not kept with the study, as far as can be told at once."""
        journal = self.search.journal
        if weights == BANK:
            if allocation.digest in self.search.failures:
                return False
            cells = self.search.bench.applied(allocation)
            known = journal.sample_scores(self.search.setup.space)
            if size == self.search.rungs.total and allocation.digest in known:
                return False
        else:
            cells = journal.attribute(CELLS + self._name(allocation, weights))
        return not cells or journal.attribute(_key(cells, size)) is None

    def _under(
        self, allocation: Allocation, weights: str, what: Callable[[Workbench], Found]
    ) -> Found | None:
        """What something finds under such weights; None where they cannot be had."""
        name = self._name(allocation, weights)
        while True:
            was_open = name in self._opened
            try:
                made = self._weights(allocation, weights)
                with self.search.bench.under(made) as bench:
                    return what(bench)
            except NOT_FINALIZED as error:
                # another process may have taken them away, who made them
                if was_open and isinstance(error, BankError):
                    del self._opened[name]
                    continue
                # a search of hours must not end without what it found
                self._give_up(allocation, weights, error)
                return None

    def discard(self) -> None:
        """Take away weights that were made here, but for those that were evaluated.

        Their scores are kept, and a disk may not hold the weights of all finalists.
        """
        for name in sorted(self._made - self._needed):
            discard_finalized(name)

    def _weights(self, allocation: Allocation, weights: str) -> Any:
        """Finalized weights: opened, and made first where they are missing."""
        search, name = self.search, self._name(allocation, weights)
        if name not in self._opened:
            since, was_there = Clock(), is_finalized(name)
            made = finalize(
                search.setup,
                allocation,
                Watched(search.watch, search),
                tuned=weights == TUNED,
                passes=self.passes,
            )
            search.deadline.finalized(search, since.seconds, weights)
            self._opened[name] = made
            if not was_there:
                self._made.add(name)
        return self._opened[name]

    def _name(self, allocation: Allocation, weights: str) -> str:
        setup, tuned = self.search.setup, weights == TUNED
        return finalized_digest(setup, allocation, tuned=tuned)

    def _give_up(
        self, allocation: Allocation, weights: str, error: BaseException
    ) -> None:
        self.failed.add((allocation.digest, weights))
        is_tuned, name = weights == TUNED, self.search.name_of(allocation)
        kept, cannot = ("finalized", "tuned") if is_tuned else ("bank's", IN_SEQUENCE)
        self.search.watch.say(
            f"{name} keeps the {kept} weights, since it cannot be {cannot}: "
            f"{reason(error)}"
        )

    def _scored(self, allocation: Allocation, bench: Workbench, size: int) -> Values:
        """Scores under the weights of a bench, taken where they are not kept."""
        search, samples = self.search, self.search.setup.samples["search"]
        if bench is search.bench:
            if allocation.digest in search.failures:
                return ()
            if size == len(samples):
                known = search.journal.sample_scores(search.setup.space)
                if allocation.digest in known:
                    return known[allocation.digest]
        key = _key(bench.applied(allocation), size)
        kept = search.journal.attribute(key)
        if kept is None:
            few = spread_out(samples, size)
            score = search.score(allocation, few, bench)
            failed = not_finite(score.mean, score.values, [s.id for s in few])
            if failed:
                search.watch.say(f"{search.name_of(allocation)} {failed}")
            kept = "" if failed else encode_scores(score.values)
            search.journal.set_attribute(key, kept)
        return _recalled(kept)


def mean(values: Values) -> float:
    """Mean of scores; below all others where there are none."""
    return sum(values) / len(values) if values else float("-inf")


def _key(cells: str, size: int) -> str:
    return f"{SCORES}{cells}:{size}"


def _recalled(kept: str) -> Values:
    return decode_scores(kept) if kept else ()
