"""How much is worked on at once: what stays in a CPU's cache, and what fills a device.

Nothing here changes what comes out but in the last bits of a product. On a device it
follows all of its memory, not what is free, so that one machine gives one result.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

# bytes of columns that are solved at a time on a CPU; on a device a share of its
# memory, since there few and large steps are what is quick
CPU_BYTES, DEVICE_SHARE = 2**28, 1 / 16


def at_once(where: Tensor, on_cpu: int, elsewhere: int) -> int:
    """The one of two numbers that suits the device on which a tensor lies."""
    return on_cpu if where.device.type == "cpu" else elsewhere


def column_bytes(device: torch.device | str) -> int:
    """Bytes of columns that are solved at a time."""
    if torch.device(device).type != "cuda":
        return CPU_BYTES
    whole = torch.cuda.get_device_properties(torch.device(device)).total_memory
    return max(CPU_BYTES, int(whole * DEVICE_SHARE))


def kernels_for(where: Tensor) -> Any:
    """The module `quant.fused`, for a tensor on an NVIDIA GPU; None elsewhere."""
    if where.device.type != "cuda" or find_spec("triton") is None:
        return None
    return import_module("quant.fused")
