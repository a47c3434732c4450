"""What sibling sets of a stage read behind what is quantized, and how far it has moved.

A set of ordinary linears has the stage run up to it. All experts of a block share one
run, up to where they are called: what is read by one of them follows from the call, so
no more is in memory than the statistics of that one. Where full precision runs beside
it, that says which experts a token goes to: then the same tokens reach the same experts
behind quantized linears, and what has become of them can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from quant.calibration import Observed, no_inputs
from quant.drift import Drift
from quant.full_pass import calls_of, reads_of
from quant.pooling import Pool, borrows
from quant.routed import Experts, Routed, experts_of
from quant.streaming import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Siblings, Stage
    from quant.full_pass import FullPass
    from quant.hessian import InputStatistics


def together(sets: Sequence[Siblings]) -> list[list[Siblings]]:
    """Sibling sets in the order in which they are solved, those of a pool in a row."""
    numbered = enumerate(sets)
    rows = groupby(numbered, lambda each: each[1].pool or each[0])
    return [[siblings for _, siblings in row] for _, row in rows]


@dataclass
class Observing:
    """Looks at one stage, which is loaded, quantized linears in place.

    Attributes:
        module: the model.
        stage: whose sets are looked at.
        states: in front of it.
        seen: number of the first batches: those that are calibrated on.
        full: the same at full precision; None: nothing is compared.
        folder: for what does not fit into memory.
    """

    module: Any
    stage: Stage
    states: Spool
    seen: int
    full: FullPass | None
    folder: Path
    _called: tuple[str, Spool, Spool] | None = field(default=None, init=False)

    def observed(
        self, row: Sequence[Siblings], wanted: Sequence[Siblings]
    ) -> Iterator[tuple[Observed, Drift]]:
        """What some of a row of sets read, and how far that has moved.

        Args:
            row: as of `together`.
            wanted: those of them to look at.
        """
        if not wanted:
            return
        if row[0].pool is not None:
            yield from self._of_experts(row[0].pool, wanted)
            return
        # what is quantized next may change what experts are called with
        self._called = None
        for siblings in wanted:
            yield self._of_set(siblings)

    def _of_set(self, siblings: Siblings) -> tuple[Observed, Drift]:
        observed = Observed(siblings, no_inputs(self.module, siblings.names[0]))
        drift = _no_drift(observed.inputs)
        for n in range(self.seen):
            before = self.full.read(self.stage, siblings, n) if self.full else None
            count = None if before is None else len(before)
            now = reads_of(self.module, self.stage, siblings, self.states[n], count)
            for read in now:
                observed.inputs.add(read)
            for full, read in zip(before or (), now, strict=before is not None):
                drift.add(full, read)
        return observed, drift

    def _of_experts(
        self, stack: str, wanted: Sequence[Siblings]
    ) -> Iterator[tuple[Observed, Drift]]:
        [experts] = experts_of(self.module, wanted)
        now, before = self._calls(experts)
        pool = self._pool(experts, stack, now)
        for siblings in wanted:
            name = siblings.names[0]
            observed = Observed(siblings, no_inputs(self.module, name), pool)
            drift, number = _no_drift(observed.inputs), int(name.rpartition(".")[2])
            read = _rows(experts, now, stack, number)
            observed.inputs.add(read)
            if self.full:
                with self.full.aside():
                    full = _rows(experts, before, stack, number)
                drift.add(full, read)
            yield observed.filled(), drift

    def _calls(self, experts: Experts) -> tuple[Spool, Spool]:
        """Calls of experts, by batch: as they are now, and at full precision."""
        if self._called is None or self._called[0] != experts.name:
            device = self.states.device
            now, before = (Spool(self.folder, device) for _ in range(2))
            for n in range(self.seen):
                full = self.full.calls(self.stage, experts, n) if self.full else None
                count = None if full is None else len(full)
                calls = calls_of(self.stage, experts, self.states[n], count)
                if full is not None:
                    calls = [
                        Routed(own.hidden, *exact[1:])
                        for own, exact in zip(calls, full, strict=True)
                    ]
                    before.append({"calls": full})
                now.append({"calls": calls})
            self._called = experts.name, now, before
        return self._called[1:]

    def _pool(self, experts: Experts, stack: str, calls: Spool) -> Pool | None:
        """What all experts of a stack read, if one of them has to borrow."""
        count = len(self.module.get_parameter(stack))
        tokens = [0] * count
        for n in range(len(calls)):
            for call in calls[n]["calls"]:
                own = call.tokens(count)
                tokens = [a + b for a, b in zip(tokens, own, strict=True)]
        total = no_inputs(self.module, f"{stack}.0")
        if not any(borrows(each, len(total.mean_abs)) for each in tokens):
            return None
        for number in range(count):
            total.add(_rows(experts, calls, stack, number))
        return Pool.whole(stack, total, tokens)


def _no_drift(inputs: InputStatistics) -> Drift:
    return Drift.empty(len(inputs.mean_abs), inputs.mean_abs.device)


def _rows(experts: Experts, calls: Spool, stack: str, number: int) -> Tensor:
    """What one expert's linear reads in all batches, one behind the other: [n, in]."""
    return torch.cat(
        [
            experts.read(call, stack, number)
            for n in range(len(calls))
            for call in calls[n]["calls"]
        ]
    )
