"""A format of the tests' own: streams of codes, as sizes count them by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from allocator.core.exporting import EXACT, NO_OPTIONS, Tolerance
from allocator.exporters._compare import as_written, staged_logits
from allocator.exporters._shards import tensor_bytes, write_shards
from quant.grid import Grid, decode
from quant.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Sample
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export


class Dense:
    """Writes `model.safetensors`, and reads it with our own model."""

    description = "streams of codes"
    options = NO_OPTIONS

    def loader(self) -> None:
        """None: no runtime has it."""

    def layout(self, export: Export) -> str:
        """That of no runtime in particular."""
        del export
        return "none"

    def check(self, export: Export) -> None:
        """All grids but those of a whole matrix."""

    def write(
        self, export: Export, out: Path, tick: Callable[[int, int], object]
    ) -> None:
        """Write into an empty folder."""
        write_shards(out, tensors(export.checkpoint, tick))

    def stored(self, out: Path) -> int:
        """What the headers say."""
        return tensor_bytes(out)

    def reopen(self, export: Export, out: Path) -> Read:
        """By the reader below."""
        return Read(export.checkpoint, out)

    def usage(self, export: Export) -> str:
        """How to read it."""
        del export
        return 'open("{out}/model.safetensors")'


def tensors(
    made: Checkpoint, tick: Callable[[int, int], object]
) -> Iterator[tuple[str, Tensor]]:
    yield from made.rest()
    for done, name in enumerate(made.low):
        tick(done, len(made.low))
        cell = made.cell(name)
        yield f"{name}.codes", pack(cell.codes, cell.bits)
        yield f"{name}.scale", cell.scale
        if cell.zero is not None:
            yield f"{name}.zero", pack(cell.zero, cell.bits)
        yield f"{name}.shape", torch.tensor(cell.codes.shape)


@dataclass
class Read:
    """What was written; `spoil` changes a weight that is read."""

    made: Checkpoint
    folder: Path
    loader: str = "a reader of the tests"
    tolerance: Tolerance = EXACT
    spoil: Callable[[str, Tensor], Tensor] = lambda _, weight: weight
    asked: list[Any] = field(default_factory=list)

    def weight(self, linear: str) -> Tensor:
        bits = self.made.low[linear].bits
        with safe_open(self.folder / "model.safetensors", "pt") as file:
            shape = tuple(file.get_tensor(f"{linear}.shape").tolist())
            codes = unpack(file.get_tensor(f"{linear}.codes"), bits, shape)
            scale, zero = file.get_tensor(f"{linear}.scale"), None
            if f"{linear}.zero" in file.keys():  # noqa: SIM118, no mapping
                zero = file.get_tensor(f"{linear}.zero")
                zero = unpack(zero, bits, tuple(scale.shape))
        columns = shape[1] // scale.shape[1]
        grid = Grid(scale=scale, zero=zero, columns=columns, bits=bits)
        return self.spoil(linear, decode(codes, grid))

    def logits(self, samples: Sequence[Sample]) -> Tensor:
        self.asked += samples
        low = {f"{name}.weight": name for name in self.made.low}
        written = as_written(self.made)

        def weight(name: str, parameter: Tensor) -> Tensor:
            if name in low:
                return self.weight(low[name])
            return written(name, parameter)

        return staged_logits(self.made, weight)
