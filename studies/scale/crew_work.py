"""The work of one search as pieces for a crew: what waits for what, and how long.

Counts and seconds are those of `cost.py`: LLaVA-1.5-7B, VQAv2, 4.0 bits per weight, on
an H100. A stage's pieces need nothing of each other; the next stage waits for them all.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from allocator.search.counts import PROBED
from allocator.search.deadline import LAST as RACED
from allocator.search.finals import FEW
from allocator.study.looks import DIVERGENCE, LADDER
from studies.scale.cost import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from studies.scale.cost import Counted

OFFSPRING = 48
SEARCH, EVALUATION = 1_000, 21_435
# samples of the first part of the evaluation set's race
FIRST = 1_340
# seconds that every process of a bank's build takes beside what it solves: the weights
# from a disk at 2 GB/s, one pass of the calibration samples through all stages
DISK = 2e9


class Piece(NamedTuple):
    """Seconds of a piece; `swap` more where another allocation was in place before."""

    seconds: float
    swap: float
    allocation: int


@dataclass(frozen=True)
class Stage:
    """Pieces that wait for nothing but the stage before.

    Attributes:
        name: the part of the search.
        pieces: in the order in which one process would do them.
        alone: seconds of the leader before there are any, in which nobody has work.
        joined: seconds that each process takes to be able to do any of them.
        is_shared: whether anybody but the leader does any.
        proposals: proposals whose scores are known behind it.
    """

    name: str
    pieces: tuple[Piece, ...]
    alone: float = 0.0
    joined: float = 0.0
    is_shared: bool = True
    proposals: int = 0

    @property
    def seconds(self) -> float:
        """What one process takes."""
        return self.alone + self.joined + taken(self.pieces, -1)


def taken(pieces: Iterable[Piece], before: int) -> float:
    """Seconds of pieces in a row, `before` being in place at first."""
    total = 0.0
    for seconds, swap, allocation in pieces:
        total += seconds + (swap if allocation != before else 0.0)
        before = allocation
    return total


@dataclass(frozen=True)
class Plan:
    """How a search is done.

    Attributes:
        proposals: to be measured in all.
        at_once: asked for, raced and measured together.
        finalized: processes that share one finalization.
        shares_full: whether full precision is measured by all, and not before workers
            are let in.
    """

    proposals: int = 20
    at_once: int = 1
    finalized: int = 1
    shares_full: bool = False


class Work:
    """The stages of a search that is done by a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @cached_property
    def own(self) -> Counted:
        """The cost table."""
        asked = {"model": "llava-1.5-7b-hf", "task": "vqav2", "device": "h100"}
        blank = {"gpu": None, "finalizations": None, "before": False}
        return counted(argparse.Namespace(**asked, **blank))

    @cached_property
    def start(self) -> float:
        """Seconds until a process has loaded the model."""
        return self.own.units.start.seconds

    def scored(self, allocations: float, samples: int, swapped: float) -> list[Piece]:
        """Batches of some allocations' samples, a piece each."""
        size, swap = self.own.case.batch, swapped * self._swap
        whole, rest = divmod(samples, size)
        batches = [size] * whole + ([rest] if rest else [])
        seconds = [n * self._scored for n in batches]
        names = range(round(allocations))
        return [Piece(each, swap, name) for name in names for each in seconds]

    def looked(self, allocations: float, samples: int, swapped: float) -> list[Piece]:
        """A look is one piece."""
        each, swap = samples * self._looked, swapped * self._swap
        return [Piece(each, swap, name) for name in range(round(allocations))]

    @cached_property
    def _scored(self) -> float:
        """Seconds of a sample that is replied to."""
        return self.own.seconds(scored=1.0)

    @cached_property
    def _looked(self) -> float:
        """Seconds of a sample that is looked at."""
        return self.own.seconds(looked=1.0)

    @cached_property
    def _swap(self) -> float:
        """Seconds in which all weights are exchanged."""
        return self.own.seconds(swapped=float(self.own.found.weights))

    def stages(self) -> Iterator[Stage]:
        """All of them in order."""
        changed, looks = self.own.savings.changed, 32 + 128
        full = self.scored(1, SEARCH + FIRST, 0) + self.looked(1, 328, 0)
        yield Stage("full precision", tuple(full), is_shared=self.plan.shares_full)
        yield self.bank()
        uniform = self.looked(6, looks, 1) + self.scored(6, SEARCH, 1)
        yield Stage("baselines", tuple(uniform))
        yield Stage("probes", tuple(self.looked(235, PROBED, 2 / 13)))
        rivals = self.looked(2, looks, 1) + self.scored(2, SEARCH, 1)
        yield Stage("rivals", tuple(rivals))
        done = 0
        while done < self.plan.proposals:
            count = min(self.plan.at_once, self.plan.proposals - done)
            done += count
            left, alone = count * OFFSPRING, count * self.own.units.proposal.seconds
            for kind, size, outlive in LADDER:
                take = self.looked if kind == DIVERGENCE else self.scored
                pieces = take(left, size, changed)
                yield Stage(f"rung of {size}", tuple(pieces), alone)
                left, alone = count * outlive, 0.0
            pieces = self.scored(count, SEARCH, changed)
            yield Stage("proposals", tuple(pieces), proposals=count)
        yield from self.final()

    def bank(self) -> Stage:
        """A stage of the model is a piece; each process runs the model through."""
        units, weights = self.own.units, self.own.found.weights
        blocks = 24 + 1 + 32
        solved = units.gather.seconds + sum(u.seconds for u in units.solve.values())
        passed = 128 * self.own.case.lengths.prompt * units.prompt.seconds
        joined = passed + 2 * weights / DISK
        each = Piece(solved * weights / blocks, 0.0, 0)
        return Stage("bank", (each,) * blocks, joined=joined)

    def final(self) -> Iterator[Stage]:
        """Finalists are finalized and compared; the last race on the evaluation set."""
        each = self.own.units.finalize.seconds * self.own.found.weights
        yield Stage("finalization", tuple(self._finalized(4, each)))
        exchanged = 2.0
        yield Stage("finalists", tuple(self.scored(4, FEW, exchanged)))
        yield Stage("finalists", tuple(self.scored(3, SEARCH, exchanged)))
        sizes, left, before = [FIRST], 3.0 + RACED, 0
        while 2 * sizes[-1] <= EVALUATION + 5:
            sizes.append(2 * sizes[-1])
        sizes[-1] = EVALUATION
        for at, size in enumerate(sizes):
            pieces = self.scored(ceil(left), size - before, exchanged)
            if not at:
                # full precision reads what it has not
                pieces += self.scored(1, EVALUATION - FIRST, 1)
            yield Stage("confirmation", tuple(pieces))
            most = RACED << max(0, len(sizes) - 2 - at)
            left = max(min(left, RACED), min(most, self.own.savings.staying * left))
            before = size
        yield Stage("shown", tuple(self.scored(8, FIRST, exchanged)))
        yield Stage("divergence", tuple(self.looked(40, 50, 0.1)))

    def _finalized(self, count: int, seconds: float) -> list[Piece]:
        """Whole models one by one, or each shared out among several processes."""
        parts = self.plan.finalized
        return [Piece(seconds / parts, 0.0, n) for n in range(count * parts)]
