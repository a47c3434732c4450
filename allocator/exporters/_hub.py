"""What is written around the weights: names of tensors, config.json, small files.

They are the source checkpoint's. Where it was saved by transformers 5, which has other
names for some parts, they are those of the published checkpoints of its kind: other
runtimes know only these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Hub:
    """How a checkpoint is laid out where models are published.

    Attributes:
        keys: name of the tensor that holds a parameter, by its full name; one of tied
            ones.
        config: config.json, `dtype` and `torch_dtype` set to the 16-bit type.
        files: what else belongs into the folder: generation config, processor,
            tokenizer and chat template, by name below it.
    """

    keys: Mapping[str, str]
    config: dict[str, Any]
    files: Mapping[str, Path]

    def copy(self, out: Path) -> None:
        """Copy the files into a folder, config.json and weights not among them."""
        raise NotImplementedError


def hub_of(checkpoint: Checkpoint) -> Hub:
    """The names and files that a checkpoint is written with.

    Raises:
        ModelError: a quantized linear is stored in parts, or transformers 5 saved the
            checkpoint and the published names of a part are not known.
    """
    raise NotImplementedError
