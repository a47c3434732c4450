"""How long something takes on a device."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

Given = TypeVar("Given")

# what takes less is done again, and the quickest counts: the first time others wake up
SHORT, AGAIN = 0.5, 3


def timed(
    device: str, work: Callable[[], Given], counted: Counter[Any] | None = None
) -> tuple[float, Given]:
    """Seconds that some work takes, and what it gives.

    Args:
        device: where it is done; waited for.
        work: may be done several times.
        counted: counters that work adds to; they count it once.
    """
    seconds, found = _once(device, work)
    once = None if counted is None else counted.copy()
    if seconds < SHORT:
        for _ in range(AGAIN):
            seconds = min(seconds, _once(device, work)[0])
    if counted is not None and once is not None:
        counted.clear()
        counted.update(once)
    return seconds, found


def _once(device: str, work: Callable[[], Given]) -> tuple[float, Given]:
    started = time.perf_counter()
    found = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, found
