"""Values that are kept by how often they are asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from allocator.core.memory import has_room


@dataclass
class Recurring:
    """Kept is what was asked for most often, of equals what came first.

    What is read in turn, again and again, is so kept as far as it fits: where the
    longest unused goes, that would always be what is read next. Threads may share it.

    Attributes:
        limit: bytes in all.
        held: bytes by now.
        values: what is kept, with its bytes.
        asked: how often anything was asked for.
    """

    limit: int
    held: int = 0
    values: dict[Any, tuple[int, Any]] = field(default_factory=dict)
    asked: Counter[Any] = field(default_factory=Counter)
    lock: Any = field(default_factory=RLock, repr=False)

    def get(self, key: Any) -> Any:
        """The value, or None."""
        with self.lock:
            self.asked[key] += 1
            return self.values.get(key, (0, None))[1]

    def put(self, key: Any, size: int, value: Any) -> None:
        """Keep a value of a size in bytes if it fits beside what is worth as much."""
        with self.lock:
            if size > self.limit or key in self.values or not has_room(size):
                return
            gone = self._giving_way(self.held + size - self.limit, self.asked[key])
            if gone is None:
                return
            for each in gone:
                self.held -= self.values.pop(each)[0]
            self.values[key] = size, value
            self.held += size

    def _giving_way(self, lacking: int, worth: int) -> list[Any] | None:
        """What is worth less and together frees the bytes lacking; None: too little."""
        gone: list[Any] = []
        if lacking <= 0:
            return gone
        less = [each for each in self.values if self.asked[each] < worth]
        for each in sorted(less, key=self.asked.__getitem__):
            gone.append(each)
            lacking -= self.values[each][0]
            if lacking <= 0:
                return gone
        return None
