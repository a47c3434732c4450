"""Cells kept in memory between swaps: packed, in the nearest memory that has room.

What came first stays: where cells do not all fit, a search goes through more of them
than fit, and dropping the longest unused would drop each before it is used again.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from allocator.core.memory import has_room, host_bytes, share
from quant.grid import dequantize
from quant.lru_cache import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import torch

    from allocator.core.allocation import Choice
    from allocator.core.spec import Linear
    from quant.grid import Cell
    from quant.packed import PackedCell

# of the memory of this machine, for packed cells; on a CPU they are mapped from their
# files, and the pages of these are taken back where memory is short
HOST_SHARE = 0.25
# of what is free on a CUDA device when the first cell is kept: the rest is for
# activations, and for weights while they are decoded
DEVICE_SHARE = 0.5


@dataclass
class Memory:
    """A memory that takes packed cells until it is full.

    Attributes:
        limit: bytes that it may hold.
        move: brings a tensor there.
        taken: bytes that a tensor of a size takes there.
        held: bytes that it holds.
    """

    limit: int
    move: Callable[[Tensor], Tensor]
    taken: Callable[[int], int] = int
    held: int = 0

    def take(self, cell: PackedCell) -> PackedCell | None:
        """The cell in this memory; None where there is no room for it."""
        size = sum(self.taken(part.nbytes) for part in cell.parts().values())
        if self.held + size > self.limit or not has_room(size):
            return None
        try:
            moved = cell.moved(self.move)
        except RuntimeError:
            # out of memory: somebody else took what was free
            self.limit = self.held
            return None
        self.held += size
        return moved


@dataclass
class Kept:
    """Packed cells by a name, and where they are kept.

    Attributes:
        memories: the nearest to the weights first; None: those of the device on which
            the first weight is (`memories_of`).
        decoded: effective weights, where a bank's are so few that all of them fit:
            starting the steps of decoding takes longer than they do there.
        cells: what is kept packed.
    """

    memories: Sequence[Memory] | None = None
    decoded: LRUCache = field(default_factory=lambda: LRUCache(0))
    cells: dict[Hashable, PackedCell] = field(default_factory=dict)

    @staticmethod
    def mapped() -> Kept:
        """For cells that are read as views of their files, and are to stay so."""
        return Kept([Memory(sys.maxsize, lambda part: part)])

    def put(self, key: Hashable, read: Callable[[], PackedCell], out: Tensor) -> int:
        """Put a cell's effective weights into others, and say how many bytes were read.

        Args:
            key: names the cell.
            read: reads it, where it is not kept.
            out: [out, in] floating point, on any device.
        """
        here = key, out.device, out.dtype
        whole = self.decoded.get(here)
        if whole is not None:
            out.copy_(whole)
            return int(whole.nbytes)
        cell = self.cells.get(key)
        if cell is None:
            cell = self._keep(key, read(), out.device)
        cell.moved(lambda part: part.to(out.device, non_blocking=True)).write_(out)
        if self.decoded.limit:
            self.decoded.put(here, out.nbytes, out.detach().clone())
        return cell.nbytes

    def _keep(
        self, key: Hashable, cell: PackedCell, device: torch.device
    ) -> PackedCell:
        if self.memories is None:
            self.memories = memories_of(device)
        for memory in self.memories:
            moved = memory.take(cell)
            if moved is not None:
                self.cells[key] = moved
                return moved
        return cell


class PackedCells(ABC):
    """Where effective weights come from, by linear and choice.

    Attributes:
        kept: cells that were put in place.
    """

    kept: Kept

    @abstractmethod
    def packed(self, linear: Linear, choice: Choice) -> PackedCell:
        """The cell of a linear under a choice below 16 bits, packed, read anew.

        Raises:
            BankError: there is none, or it is not what was written.
        """

    def put(self, linear: Linear, choice: Choice, out: Tensor) -> int:
        """Put a linear's effective weight in place, its cell kept where it may be.

        Args:
            linear: its name counts.
            choice: bits and method.
            out: [out, in] floating point, on any device.

        Returns:
            Bytes that were read for it.

        Raises:
            BankError: as `packed`.
        """
        read = partial(self.packed, linear, choice)
        return self.kept.put((linear.name, choice), read, out)

    def weight(self, linear: Linear, choice: Choice) -> Tensor:
        """Effective weight of a linear: [out, in] float32; BankError as `packed`."""
        return dequantize(self.cell(linear, choice))

    def cell(self, linear: Linear, choice: Choice) -> Cell:
        """The cell itself, read anew; BankError as `packed`."""
        return self.packed(linear, choice).moved(Tensor.cpu).cell()


def memories_of(device: torch.device) -> list[Memory]:
    """Where packed cells of weights on a device may be kept, the nearest first."""
    limit = share(HOST_SHARE / 2, int(HOST_SHARE * host_bytes()))
    if device.type == "cuda":
        return [device_memory(device), pinned_memory(limit)]
    return [Memory(limit, lambda part: part)]


def device_memory(device: torch.device) -> Memory:
    """Memory of a CUDA device."""
    from quant.cuda import free_bytes

    room = int(DEVICE_SHARE * free_bytes(device))
    return Memory(room, lambda part: part.to(device))


def pinned_memory(limit: int) -> Memory:
    """Memory of the host that a CUDA device reads by itself."""
    from quant.cuda import pinned, pinned_bytes

    return Memory(limit, pinned, pinned_bytes)
