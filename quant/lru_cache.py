"""Values that are kept up to a size, the longest unused dropped first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from allocator.core.memory import has_room

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class LRUCache:
    """Values kept by key, the longest unused dropped first beyond a size in bytes."""

    limit: int
    held: int = 0
    values: OrderedDict[Any, tuple[int, Any]] = field(default_factory=OrderedDict)

    def get(self, key: Any) -> Any:
        """The value, or None."""
        if key not in self.values:
            return None
        self.values.move_to_end(key)
        return self.values[key][1]

    def put(self, key: Any, size: int, value: Any) -> None:
        """Keep a value of a size in bytes, if it fits at all."""
        if size > self.limit or key in self.values:
            return
        while self.values and not has_room(size):
            self._drop(next(iter(self.values)))
        self._add(key, size, value)
        while self.held > self.limit:
            self._drop(next(iter(self.values)))

    def put_for(
        self, key: Any, size: int, value: Any, worth: Callable[[Any], float]
    ) -> None:
        """Keep a value if it fits once others gave way, all of them worth less.

        So what is read again and again in turn is kept as far as it fits, where the
        longest unused would always be what is read next.

        Args:
            key: of the value.
            size: in bytes.
            value: itself.
            worth: of a key, now; what is worth least gives way first.
        """
        if size > self.limit or key in self.values or not has_room(size):
            return
        lacking = self.held + size - self.limit
        gone: list[Any] = []
        if lacking > 0:
            worths = {each: worth(each) for each in self.values}
            own = worth(key)
            for each in sorted(worths, key=worths.__getitem__):
                if lacking <= 0 or worths[each] >= own:
                    break
                gone.append(each)
                lacking -= self.values[each][0]
        if lacking > 0:
            return
        for each in gone:
            self._drop(each)
        self._add(key, size, value)

    def _add(self, key: Any, size: int, value: Any) -> None:
        self.values[key] = (size, value)
        self.held += size

    def _drop(self, key: Any) -> None:
        size, _ = self.values.pop(key)
        self.held -= size


def size_of(values: Any) -> int:
    """Bytes of all tensors in nested values."""
    return sum(
        value.nbytes for value in tree_leaves(values) if isinstance(value, torch.Tensor)
    )
