"""A checkpoint written in pack-quantized format, and the model that it should be."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from allocator.exporters._export import Export
from allocator.exporters.compressed_tensors import PLUGIN
from allocator.families import family_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model
    from allocator.exporters._checkpoint import Checkpoint

needs_library = pytest.mark.skipif(
    find_spec("compressed_tensors") is None,
    reason="compressed-tensors is not installed",
)


def written(made: Checkpoint, out: Path) -> Export:
    """Write a checkpoint."""
    export = Export({"scheme": {"target": made.scheme.target}}, lambda: made)
    out.mkdir()
    PLUGIN.check(export)
    PLUGIN.write(export, out, lambda *_: None)
    return export


def expected(made: Checkpoint) -> Model:
    """The source's model with the weights that are written."""
    model = family_of(made.folder).load(made.folder, "cpu")
    rest = dict(made.rest())
    for name, parameter in model.module.named_parameters():
        linear = name.removesuffix(".weight")
        value = made.weight(linear) if linear in made.low else rest[name]
        parameter.data = value.float()
    return model
