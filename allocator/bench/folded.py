"""A model as a checkpoint stores it: AWQ's scales folded, the rest in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.allocation import FULL
from allocator.core.errors import BankError
from quant.bank import Bank
from quant.folding import divided_scale, folded, settled
from quant.grid import decode, scale_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import torch
    from torch import Tensor

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Allocation, Choice
    from allocator.core.ports import Model, Sample
    from allocator.core.spec import Linear
    from quant.finalized import Finalized
    from quant.grid import Cell


@dataclass(frozen=True, eq=False)
class Folded:
    """What is written of an allocation; also `allocator.bench.in_place.Cells`.

    Attributes:
        choices: bits and method of every linear in a group, by full name.
        cell: the cell of a linear below 16 bits, by full name, without an AWQ scale;
            read when asked for.
        changed: parameters that folding changed, by full name, in 16 bits.
        dtype: the 16-bit type.
    """

    choices: Mapping[str, Choice]
    cell: Callable[[str], Cell]
    changed: Mapping[str, Tensor]
    dtype: torch.dtype

    def put(self, linear: Linear, choice: Choice, out: Tensor) -> int:
        """Put the weight of a linear below 16 bits in place; bytes read for it."""
        if self.choices.get(linear.name) != choice:
            raise BankError(f"{linear.name} was not folded at {choice}")
        cell = self.cell(linear.name)
        out.copy_(decode(cell.codes, cell))
        return cell.codes.nbytes

    def rest(
        self, choices: Mapping[str, Choice], parameters: Iterable[tuple[str, Tensor]]
    ) -> Iterator[tuple[str, Tensor]]:
        """Parameters without a cell that a checkpoint stores as something else."""
        if dict(choices) != dict(self.choices):
            raise BankError("what folding changed goes with all choices, or with none")
        return settled(parameters, self.changed, self.dtype)

    def cell_sum(self, linear: Linear, choice: Choice) -> str:
        """No checksum: nothing of it is kept."""
        return f"{linear.name} folded at {choice}"


def folded_of(
    setup: Setup, allocation: Allocation, cells: Bank | Finalized, model: Model
) -> Folded:
    """What a checkpoint of an allocation stores, as it is measured where finalized.

    Args:
        setup: the request.
        allocation: bits and method of every group.
        cells: an open bank, or the weights that were finalized for the allocation.
        model: the checkpoint, mapped: its parameters are read where a scale folds.

    Raises:
        FoldError: a bank's scale that the module before it cannot absorb.
        BankError: finalized weights of another allocation.
    """
    choices = allocation.of_linears(setup.model)
    linears = {linear.name: linear for linear in setup.model.linears}
    low = {name for name, choice in choices.items() if choice.bits < FULL}
    dtype = scale_dtype(setup.scheme)
    if not isinstance(cells, Bank):
        return Folded(
            choices,
            lambda name: cells.cell(linears[name], choices[name]),
            cells.changed(),
            dtype,
        )
    folds = folded(
        model.stages(),
        low,
        lambda name: cells.part(linears[name], choices[name], "channel_scale"),
        dict(model.module.named_parameters(remove_duplicate=False)),
        dtype,
    )
    for name, rows in folds.rows.items():
        scale = cells.part(linears[name], choices[name], "scale")
        assert scale is not None
        # refused before anything is written, not when the cell is read
        divided_scale(name, scale, rows)

    def cell(name: str) -> Cell:
        return folds.cell(name, cells.cell(linears[name], choices[name]))

    return Folded(choices, cell, folds.changed, dtype)


def fold_difference(
    bench: Workbench, folded: Folded, allocation: Allocation, samples: Sequence[Sample]
) -> float:
    """How far folding moves the logits of a bank's cells, relative to the largest.

    Largest difference of the next token's log-probabilities over the largest of them.
    The bench is back at 16 bits.
    """
    plain = bench.logits(allocation, samples)
    with bench.under(folded) as other:
        moved = other.logits(allocation, samples)
    finite = plain.isfinite()
    return float((moved - plain)[finite].abs().max() / plain[finite].abs().max())
