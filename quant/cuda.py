"""Memory of a CUDA device, and memory of the host that it reads by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quant.kept import Memory

if TYPE_CHECKING:
    from torch import Tensor

# of what is free when the first cell is kept, for packed cells: the rest is for
# activations, and for weights while they are decoded
DEVICE_SHARE = 0.5


def device_memory(device: torch.device) -> Memory:
    """Memory of a device for packed cells."""
    free, _ = torch.cuda.mem_get_info(device)
    # what the allocator holds, and nobody uses
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return Memory(int(DEVICE_SHARE * (free + idle)), lambda part: part.to(device))


def pinned_memory(limit: int) -> Memory:
    """Memory of the host from which copies need no processor."""
    return Memory(limit, lambda part: part.cpu().pin_memory(), pinned_bytes)


def pinned_bytes(size: int) -> int:
    """Bytes that are taken for a size: torch rounds up to powers of two."""
    return 1 << (size - 1).bit_length() if size else 0


def pinned_copy(value: Tensor) -> Tensor:
    """A copy in pinned memory, made in turn with what the device does next."""
    copy = torch.empty_like(value, device="cpu", pin_memory=True)
    return copy.copy_(value, non_blocking=True)
