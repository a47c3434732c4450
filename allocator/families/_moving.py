"""What was made on the host, where the model runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def moved(tensors: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Tensors on a device; who makes them does not wait until they are there.

    Pinned first, since a device reads such memory by itself. What is pinned is kept
    until the copy is done: torch notes it with the stream.
    """
    if device.startswith("cuda"):
        pinned = {name: each.pin_memory() for name, each in tensors.items()}
        return {k: v.to(device, non_blocking=True) for k, v in pinned.items()}
    return {name: each.to(device) for name, each in tensors.items()}
