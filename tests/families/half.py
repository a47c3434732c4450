"""A small model that overflows at few bits, and a CPU that computes in half precision.

A CPU computes in float32 here, an accelerator in the type that a checkpoint has. The
kernels of half precision are there on a CPU too, and overflow where theirs do.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.embedded import model_folder
from allocator.families import _modules
from quant import streaming

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYER = "vision_tower.encoder.layers.1"
# what the largest weight of the row is made to be
LARGE = 50_000.0


def overflowing(folder: Path) -> Path:
    """A copy of tiny-llava that is fine in half precision, but not at 2 bits.

    The inputs of a feed-forward part are normalized: their sum is 0. A hidden unit that
    nothing reads takes that sum of large weights, equal but for the normalization's
    own. Rounded to 4 levels they are off by some sixths of themselves, and what was 0
    is beyond 65,504; nothing times infinity is no number.
    """
    shutil.copytree(model_folder("tiny-llava"), folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    part = {name: weights[f"{LAYER}.{name}"].float() for name in PARTS}
    unread = int(part["mlp.fc2.weight"].norm(dim=0).argmin())
    row = 1 / part["layer_norm2.weight"]
    row = (row * LARGE / row.abs().max()).half().float()
    part["mlp.fc1.weight"][unread] = row
    part["mlp.fc1.bias"][unread] = -(row @ part["layer_norm2.bias"])
    part["mlp.fc2.weight"][:, unread] = 0
    weights |= {f"{LAYER}.{name}": value.half() for name, value in part.items()}
    save_file(weights, file, metadata={"format": "pt"})
    return folder


PARTS = (
    *("layer_norm2.weight", "layer_norm2.bias"),
    *("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight"),
)


@contextmanager
def half_precision() -> Iterator[None]:
    """Let a CPU compute in float16, as an accelerator would."""
    usual = _modules._read

    def read(kind: Any, folder: Path, _: str, **more: Any) -> Any:
        return usual(kind, folder, "float16", **more)

    half = SimpleNamespace(**{**vars(torch), "float32": torch.float16})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_modules, "_read", read)
        patch.setattr(streaming, "torch", half)
        yield
