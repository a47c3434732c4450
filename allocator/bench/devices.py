"""Devices: what there is to run on, and which one is meant."""

from __future__ import annotations

import torch

from allocator.core.errors import SpecError
from allocator.core.memory import host_bytes


def pick_device(name: str) -> str:
    """The device to run on.

    Raises:
        SpecError: a device that this machine lacks, or no device at all.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SpecError(f"{name!r} is no device; try auto, cpu or cuda") from None
    count = torch.cuda.device_count() if has_cuda else 0
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < count):
        return name
    raise SpecError(
        f"device {name!r} is not here: this machine has cpu"
        + (f" and {count} cuda" if count else "")
    )


def threads() -> int:
    """Threads that this process computes with on a CPU."""
    return torch.get_num_threads()


def use_threads(count: int) -> None:
    """Compute with so many threads on a CPU; 0 leaves it as it is."""
    if count:
        torch.set_num_threads(count)


def peak_device_bytes(device: str) -> int | None:
    """Bytes that tensors of this process took at most; None where that is the host."""
    if not device.startswith("cuda"):
        return None
    return int(torch.cuda.max_memory_allocated(device))


def device_bytes(device: str) -> int:
    """Bytes of an accelerator's memory in all; 0 where tensors are on the host."""
    if not device.startswith("cuda"):
        return 0
    return int(torch.cuda.get_device_properties(device).total_memory)


def total_memory(device: str) -> int:
    """Bytes of all memory in which a model's tensors are."""
    return device_bytes(device) or host_bytes()


def describe_devices() -> list[str]:
    """Every device a search can run on, with its name and memory."""
    found = [f"cpu ({torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        gib = about.total_memory / 2**30
        found.append(f"cuda:{index} ({about.name}, {gib:.0f} GiB)")
    return found
