"""Which weights a loaded model has in place, and how they are exchanged."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch

from allocator.bench.originals import Originals
from allocator.core.allocation import FULL, Choice, digest
from allocator.core.cost import Cost
from allocator.core.errors import BankError
from allocator.core.weights import beside, name_of_weight, tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from allocator.core.spec import Linear


class Cells(Protocol):
    """Where quantized weights come from: a bank, or `quant.finalized.Finalized`."""

    def put(self, linear: Linear, choice: Choice, out: Tensor) -> int:
        """Put a linear's effective weight under a choice below 16 bits in place.

        Args:
            linear: its name counts.
            choice: bits and method.
            out: [out, in] floating point, on any device.

        Returns:
            Bytes that were read for it.
        """

    def cell_sum(self, linear: Linear, choice: Choice) -> str:
        """Checksum of that weight's cell."""

    def rest(
        self, choices: Mapping[str, Choice], parameters: Iterable[tuple[str, Tensor]]
    ) -> Iterator[tuple[str, Tensor]]:
        """Those of the other parameters that change with some choices.

        Args:
            choices: bits and method of every linear in a group, some below 16 bits.
            parameters: at full precision, by full name; those without a cell, and
                experts without one of a stack where others have.
        """


class InPlace:
    """The weights of a module: those of full precision, or of an allocation.

    Attributes:
        linears: those in groups, however they are grouped.
        current: bits and method of each linear now, by full name.
        cells: where these came from; None: nothing was put in place since 16 bits.
        cost: counts what is exchanged.
    """

    def __init__(
        self,
        module: Any,
        linears: Sequence[Linear],
        cost: Cost | None = None,
        mapped: Callable[[], Any] | None = None,
    ) -> None:
        """Take a module that is at full precision.

        Args:
            module: the loaded model's.
            linears: all those in groups.
            cost: counts what is exchanged.
            mapped: loads the same checkpoint, mapped (`Originals`).
        """
        self.linears = linears
        names = [linear.name for linear in linears]
        self.current: dict[str, Choice] = dict.fromkeys(names, Choice(FULL))
        self.cells: Cells | None = None
        self.cost = cost or Cost()
        # whether parameters without a cell have changed with the cells
        self.has_changed = False
        self._module = module
        self._mapped = mapped
        # names of parameters that hold other values than at full precision
        self._others: set[str] = set()

    @cached_property
    def _originals(self) -> Originals:
        return Originals(self._module, self._mapped)

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

    @torch.no_grad()
    def _exchange(self, wanted: Mapping[str, Choice], cells: Cells | None) -> None:
        self.cost.swaps += 1
        for linear in self.linears:
            choice = wanted[linear.name]
            if choice == self.current[linear.name]:
                continue
            name = name_of_weight(self._module, linear.name)
            if choice.bits == FULL:
                self._give_back(name)
            else:
                out = self._keep(name)
                self.cost.bytes_read += given(cells).put(linear, choice, out)
            self.cost.weights_swapped += linear.weights
            self.current[linear.name] = choice
        if any(choice.bits != FULL for choice in wanted.values()):
            self._change_rest(wanted, given(cells))

    def restore(self) -> None:
        """Put every parameter back at 16 bits, whatever was in place."""
        low = [x for x in self.linears if self.current[x.name].bits != FULL]
        self.cost.weights_swapped += sum(linear.weights for linear in low)
        self.cost.swaps += bool(low)
        for name in list(self._others):
            self._give_back(name)
        self.current = dict.fromkeys(self.current, Choice(FULL))
        self.has_changed = False

    def _keep(self, name: str) -> Tensor:
        """A parameter, or an expert's part of one, that is about to change."""
        parameter: Tensor = tensor_of(self._module, name)
        if name not in self._others:
            self._originals.keep(name, parameter)
            self._others.add(name)
        return parameter

    @torch.no_grad()
    def _give_back(self, name: str) -> None:
        """Give a parameter its values at full precision."""
        self._originals.give_back(name, tensor_of(self._module, name))
        self._others.discard(name)

    def _change_rest(self, wanted: Mapping[str, Choice], cells: Cells) -> None:
        """Let what has no cell be what the cells in place go with."""
        coded = (name for name, choice in wanted.items() if choice.bits != FULL)
        for name, value in cells.rest(wanted, beside(self._module, coded)):
            self.has_changed = True
            self._keep(name).copy_(value)


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
