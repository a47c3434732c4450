"""Which weights a loaded model has in place, and how they are exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from allocator.core.allocation import FULL, Choice, digest
from allocator.core.errors import BankError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from allocator.core.spec import Linear


class Cells(Protocol):
    """Where quantized weights come from: a bank, or `quant.finalized.Finalized`."""

    def weight(self, linear: Linear, choice: Choice) -> Tensor:
        """Effective weight of a linear under a choice below 16 bits: [out, in]."""

    def cell_sum(self, linear: Linear, choice: Choice) -> str:
        """Checksum of that weight's cell."""

    def rest(
        self, choices: Mapping[str, Choice], parameters: Iterable[tuple[str, Tensor]]
    ) -> Iterator[tuple[str, Tensor]]:
        """Those of the other parameters that change with some choices.

        Args:
            choices: bits and method of every linear in a group, some below 16 bits.
            parameters: at full precision, by full name; those without a cell.
        """


class InPlace:
    """The weights of a module: those of full precision, or of an allocation.

    Attributes:
        linears: those in groups, however they are grouped.
        current: bits and method of each linear now, by full name.
        cells: where these came from; None: nothing was put in place since 16 bits.
        original: parameters at full precision that were others once, by full name.
    """

    def __init__(self, module: Any, linears: Sequence[Linear]) -> None:
        self.linears = linears
        names = [linear.name for linear in linears]
        self.current: dict[str, Choice] = dict.fromkeys(names, Choice(FULL))
        self.original: dict[str, Tensor] = {}
        self.cells: Cells | None = None
        self._module = module
        # whether parameters without a cell have changed with the cells
        self.has_changed = False

    def put(self, wanted: Mapping[str, Choice], cells: Cells | None) -> None:
        """Put weights in place by each linear's choice, loading only what changes.

        Where that fails, full precision is in place.

        Raises:
            BankError: there are no cells, and some groups are below 16 bits.
        """
        if wanted == self.current:
            return
        self.cells = cells
        if self.has_changed:
            self.restore()
        try:
            self._exchange(wanted, cells)
        except BaseException:
            self.restore()
            raise

    def _exchange(self, wanted: Mapping[str, Choice], cells: Cells | None) -> None:
        for linear in self.linears:
            choice = wanted[linear.name]
            if choice == self.current[linear.name]:
                continue
            low = choice.bits != FULL
            weight = given(cells).weight(linear, choice) if low else None
            self._set(f"{linear.name}.weight", weight)
            self.current[linear.name] = choice
        if any(choice.bits != FULL for choice in wanted.values()):
            self._change_rest(wanted, given(cells))

    def restore(self) -> None:
        """Put every parameter back at 16 bits, whatever was in place."""
        for name in self.original:
            self._set(name, None)
        self.current = dict.fromkeys(self.current, Choice(FULL))
        self.has_changed = False

    @torch.no_grad()
    def _set(self, name: str, value: Tensor | None) -> None:
        """Give a parameter other values; None: those of full precision."""
        parameter = self._module.get_parameter(name)
        if name not in self.original:
            self.original[name] = parameter.clone()
        parameter.copy_(self.original[name] if value is None else value)

    def _change_rest(self, wanted: Mapping[str, Choice], cells: Cells) -> None:
        """Let what has no cell be what the cells in place go with."""
        coded = {
            id(self._module.get_submodule(name).weight)
            for name, choice in wanted.items()
            if choice.bits != FULL
        }
        named = self._module.named_parameters()
        others = ((name, p) for name, p in named if id(p) not in coded)
        for name, value in cells.rest(wanted, others):
            self.has_changed = True
            self._set(name, value)


def given(cells: Cells | None) -> Cells:
    """The cells of a model that has some.

    Raises:
        BankError: it has none.
    """
    if cells is None:
        raise BankError("this model was opened without a bank: 16 bits only")
    return cells


def applied_digest(
    linears: Iterable[Linear], wanted: Mapping[str, Choice], cells: Cells | None
) -> str:
    """Digest of the cells that are put in place by each linear's choice.

    Args:
        linears: those in groups; their order counts.
        wanted: bits and method of each, by full name.
        cells: where they come from.

    Raises:
        BankError: there are no cells, and some groups are below 16 bits.
    """

    def cell_sum(linear: Linear, choice: Choice) -> str:
        is_full = choice.bits == FULL
        return str(FULL) if is_full else given(cells).cell_sum(linear, choice)

    return digest([[x.name, cell_sum(x, wanted[x.name])] for x in linears])
