"""Values that are kept by how often they are asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from quant.lru_cache import LRUCache


@dataclass
class Recurring(LRUCache):
    """Kept is what was asked for most often, of equals what came first.

    What is read in turn, again and again, is so kept as far as it fits: where the
    longest unused goes, that would always be what is read next. Threads may share it.
    """

    asked: Counter[Any] = field(default_factory=Counter)
    lock: Any = field(default_factory=RLock)

    def get(self, key: Any) -> Any:
        """The value, or None; counts how often it was asked for."""
        with self.lock:
            self.asked[key] += 1
            return super().get(key)

    def put(self, key: Any, size: int, value: Any) -> None:
        """Keep a value of a size in bytes if it fits beside what is worth as much."""
        with self.lock:
            self.put_for(key, size, value, self.asked.__getitem__)
