"""A cell with its codes packed, as it is stored, and read straight into a weight."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import gcd
from typing import TYPE_CHECKING, Any

import torch

from quant.grid import Cell, Grid, decode_
from quant.packing import octets_at_once, pack, unpack, unpacked_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedCell(Grid):
    """A `Cell` in the memory that its width takes; zero-points are a byte each.

    Attributes:
        codes: [ceil(out * in * bits / 8)] uint8 (`quant.packing.pack`).
        shape: out and in.
        channel_scale: as of a cell.
        fallback: as of a cell.
    """

    codes: Tensor
    shape: tuple[int, int]
    channel_scale: Tensor | None = None
    fallback: str | None = None

    @staticmethod
    def of(cell: Cell) -> PackedCell:
        """A cell, packed."""
        return PackedCell(
            codes=pack(cell.codes, cell.bits),
            shape=(cell.codes.shape[0], cell.codes.shape[1]),
            **_common(cell),
        )

    def cell(self) -> Cell:
        """The cell itself."""
        codes = unpack(self.codes, self.bits, self.shape)
        return Cell(codes=codes, **_common(self))

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in self.parts().values())

    def moved(self, move: Callable[[Tensor], Tensor]) -> PackedCell:
        """The same elsewhere, each of its tensors moved there."""
        parts: dict[str, Any] = {name: move(x) for name, x in self.parts().items()}
        return replace(self, **parts)

    def parts(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        named = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: x for name, x in named if isinstance(x, torch.Tensor)}

    @torch.no_grad()
    def write_(self, out: Tensor) -> None:
        """Put the effective weights into others, those of `quant.grid.dequantize`.

        They are computed in float32, some rows at a time, and are rounded to the type
        of `out` where that is another.

        Args:
            out: [out, in] floating point, on the device of the cell.
        """
        rows, columns = self.shape
        size = _rows_at_once(rows, columns, out.device)
        is_direct = out.dtype == torch.float32 and out.is_contiguous()
        room = None if is_direct else out.new_empty(size, columns, dtype=torch.float32)
        zero, scale = self.zero_point, self.scale.float()
        by = None if self.channel_scale is None else self.channel_scale.float()
        chunks = unpacked_chunks(self.codes, self.bits, size * columns)
        for at, chunk in zip(range(0, rows, size), chunks, strict=True):
            here = out[at : at + size]
            weight = here if room is None else room[: len(here)]
            codes = chunk[: weight.numel()].view(weight.shape)
            own = slice(None) if len(scale) == 1 else slice(at, at + size)
            decode_(weight, codes, scale[own], zero[own], self.columns)
            if by is not None:
                weight.div_(by)
            if room is not None:
                here.copy_(weight)


def _rows_at_once(rows: int, columns: int, device: torch.device) -> int:
    """Rows that are read at a time: so many that they begin at whole bytes."""
    step = 8 // gcd(8, columns)
    wanted = 8 * octets_at_once(device) // columns
    return min(max(step, wanted // step * step), -(-rows // step) * step)


def _common(cell: Cell | PackedCell) -> dict[str, Any]:
    names = ("scale", "zero", "columns", "bits", "channel_scale", "fallback")
    return {name: getattr(cell, name) for name in names}
