"""What was written, as transformers has read it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.exporting import EXACT
from allocator.families import family_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.exporting import Tolerance
    from allocator.core.ports import Model, Sample


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in transformers; see `allocator.core.exporting.Reopened`.

    `read` gives the effective weight [out, in] of a module, of any float type, as the
    runtime computes with it.
    """

    loader: str
    model: Model
    read: Callable[[Any], Tensor] = lambda module: module.weight
    tolerance: Tolerance = EXACT

    def weight(self, linear: str) -> Tensor:
        """Effective weight of a linear: [out, in] float32."""
        return self.read(self.model.module.get_submodule(linear)).detach().float()

    def logits(self, samples: Sequence[Sample]) -> Tensor:
        """Logits of the next token behind prompts: [samples, vocabulary] float32."""
        return next_logits(self.model, samples)


def load(
    folder: Path,
    *libraries: str,
    dtype: str = "float32",
    read: Callable[[Any], Tensor] = lambda module: module.weight,
    mapped: bool = False,
) -> Loaded:
    """Read a quantized checkpoint through transformers and the libraries it needs.

    Args:
        folder: the checkpoint's.
        libraries: by which transformers reads such weights: distributions, installed.
        dtype: of everything that has no codes.
        read: see `Loaded`.
        mapped: whether weights are to be looked at only, one at a time; see
            `Family.load_packed`.

    Raises:
        ModelError: something is missing, unknown or of another shape.
    """
    loader = ", ".join(
        f"{name} {version(name)}" for name in ("transformers", *libraries)
    )
    family = family_of(folder, packed=True)
    model = family.load_packed(folder, "cpu", dtype, mapped=mapped)
    return Loaded(loader, model, read)


def next_logits(model: Model, samples: Sequence[Sample]) -> Tensor:
    """Logits behind prompts: [samples, vocabulary] float32.

    One sample at a time, so that none depends on how long the others are.
    """
    found = []
    with torch.inference_mode():
        for sample in samples:
            state = model.inputs([sample])
            for stage in model.stages():
                state = stage.run(state)
            found.append(state["logits"][:, -1].float())
    return torch.cat(found)
