"""Memory of a CUDA device, and memory of the host that the device reads by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def free_bytes(device: torch.device) -> int:
    """Memory of a device that nobody uses, what torch holds of it included."""
    free, _ = torch.cuda.mem_get_info(device)
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + idle


def pinned(part: Tensor) -> Tensor:
    """A tensor of any device in memory from which copies need no processor."""
    return part.cpu().pin_memory()


def pinned_bytes(size: int) -> int:
    """Bytes that are taken for a size: torch rounds up to powers of two."""
    return 1 << (size - 1).bit_length() if size else 0


def pinned_copy(value: Tensor) -> Tensor:
    """A copy in pinned memory, made in turn with what the device does next."""
    copy = torch.empty_like(value, device="cpu", pin_memory=True)
    return copy.copy_(value, non_blocking=True)
