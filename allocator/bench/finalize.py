"""After a search: an allocation quantized in sequence, kept, scored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allocator.bench.loading import recipe_of, source_of, tuning_of
from allocator.core.errors import BankError, ModelError, SpecError
from allocator.core.home import data_home

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample, Score
    from allocator.core.watch import Watch
    from quant.assignment import Assignment
    from quant.finalized import Finalized
    from quant.passes import Passes
    from quant.tuning import Tuning

# weights of an allocation: those of the bank, quantized in sequence, tuned as well
BANK, FINALIZED, TUNED = "bank", "finalized", "tuned"
# activations that overflow, a full disk, too little memory
NOT_FINALIZED = (ModelError, BankError, OSError, MemoryError, RuntimeError)
# of what was done in pieces: why there is nothing
FAILED = "failed"


def finalized_home() -> Path:
    """Where finalized weights are kept."""
    return data_home() / "finalized"


def finalized_digest(
    setup: Setup,
    allocation: Allocation,
    *,
    corrected: bool = True,
    tuned: bool = False,
) -> str:
    """Name of an allocation's finalized weights, made or not."""
    tune = tuning_of(setup) if tuned else None
    return _assignment(setup, allocation, corrected, tune).digest


def finalize(
    setup: Setup,
    allocation: Allocation,
    watch: Watch,
    *,
    corrected: bool = True,
    tuned: bool = False,
    passes: Passes | None = None,
) -> Finalized:
    """Quantize an allocation in sequence, once and for all.

    Calibrated on the samples of the bank; the model is read from its files piece by
    piece and never loaded as a whole. Where the weights are there, they are checked and
    opened.

    Args:
        setup: the request.
        allocation: bits and method of every group.
        watch: is shown the phase "finalization".
        corrected: whether weights make up for what their inputs have lost.
        tuned: whether rounding is learned, in as many steps a block as were asked for.
        passes: held by whoever finalizes several allocations: what lies in front of the
            first change is not made again. The weights are the same without.

    Raises:
        BankError: the disk has, or turns out to have, too little room.
        ModelError: a linear whose weights or activations are not finite.
    """
    from quant.sequential import quantize_in_sequence

    tune = tuning_of(setup) if tuned else None
    wanted = _assignment(setup, allocation, corrected, tune)
    source, linears = source_of(setup, tuned=tuned), setup.model.linears
    with watch.phase("finalization") as progress:
        return quantize_in_sequence(
            finalized_home(), wanted, linears, source, progress, passes
        )


def is_finalized(name: str) -> bool:
    """Whether there are finalized weights of a digest, as far as files tell."""
    from quant.bank import MANIFEST

    return (finalized_home() / name / MANIFEST).exists()


def discard_finalized(name: str) -> None:
    """Take away finalized weights that nothing refers to."""
    from quant.room import discard

    discard(finalized_home() / name)


def open_finalized(name: str) -> Finalized:
    """Finalized weights by the digest that a plan has of them.

    Raises:
        BankError: they are not there, not whole, or not what was written.
        SpecError: what is no digest.
    """
    from quant.finalized import Finalized

    if not re.fullmatch("[0-9a-f]{16}", name):
        raise SpecError(f"{name!r} names no finalized weights")
    return Finalized.open(finalized_home() / name)


def score_finalized(
    bench: Workbench,
    finalized: Finalized,
    allocation: Allocation,
    samples: Sequence[Sample],
    tick: Callable[[int], object] = lambda _: None,
) -> tuple[Score, str]:
    """Score an allocation under its finalized weights, on a model that is loaded.

    Returns:
        The score, and the digest of the cells that were in place. The bench is back at
        16 bits.
    """
    with bench.under(finalized) as other:
        score = other.score(allocation, samples, tick)
        return score, other.applied(allocation)


def _assignment(
    setup: Setup, allocation: Allocation, corrected: bool, tune: Tuning | None
) -> Assignment:
    from quant.assignment import Assignment

    choices = allocation.of_linears(setup.model)
    return Assignment(recipe_of(setup), choices, corrected, tune)
