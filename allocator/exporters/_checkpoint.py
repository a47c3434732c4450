"""A model under an allocation, ready to be written: grids, and all that is no grid.

What is written is what was measured. Every linear below 16 bits has a cell without an
AWQ scale: that is folded into the module before it (`quant.folding`). Everything else
is stored in 16 bits, of the type that the scales have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL
from allocator.core.weights import beside
from quant.grid import decode, scale_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from allocator.core.allocation import Allocation, Choice, Scheme
    from allocator.core.ports import Model, Sample
    from allocator.core.spec import ModelSpec
    from quant.grid import Cell


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What an exporter writes.

    Attributes:
        spec: groups and sizes of the model, as the target leaves them.
        scheme: the grid apart from its width; has the type of scales, and the target.
        allocation: bits and method of every group.
        folder: the checkpoint that it was made of.
        model: that checkpoint, mapped: its parameters are views of the files.
        cell: the cell of a linear below 16 bits, by full name, without an AWQ scale.
        changed: parameters that folding changed, by full name; of any float type.
        samples: a few calibration samples, to compare logits on; may be empty.
        measured: effective weight of a linear below 16 bits when the score was taken:
            [out, in]; None: as it is written.
    """

    spec: ModelSpec
    scheme: Scheme
    allocation: Allocation
    folder: Path
    model: Model
    cell: Callable[[str], Cell]
    changed: Mapping[str, Tensor] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    measured: Callable[[str], Tensor] | None = None

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """Bits and method of every linear in a group, by full name."""
        return self.allocation.of_linears(self.spec)

    @cached_property
    def low(self) -> dict[str, Choice]:
        """Those of the linears below 16 bits."""
        return {k: choice for k, choice in self.choices.items() if choice.bits < FULL}

    @property
    def dtype(self) -> torch.dtype:
        """The 16-bit type of scales and of everything that has no codes."""
        return scale_dtype(self.scheme)

    def rest(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter that has no codes, by full name, in 16 bits; tied ones once.

        The weight of a linear at 16 bits is one of them, and so is every bias. Buffers
        that checkpoints hold follow.
        """
        for name, parameter in beside(self.model.module, self.low):
            yield name, self.changed.get(name, parameter.detach()).to(self.dtype)
        module = self.model.module
        stored = module.state_dict()
        for name, buffer in module.named_buffers():
            if name in stored:
                floating = buffer.is_floating_point()
                yield name, buffer.to(self.dtype if floating else buffer.dtype)

    def weight(self, name: str) -> Tensor:
        """Weight of a linear below 16 bits as it is to be read: [out, in] float32."""
        cell = self.cell(name)
        return decode(cell.codes, cell)

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.spec.family

    @property
    def config(self) -> Any:
        """The configuration of the transformers module."""
        return self.model.module.config
