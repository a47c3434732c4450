"""Values that are kept up to a size, the longest unused dropped first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_leaves


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
        self.values[key] = (size, value)
        self.held += size
        while self.held > self.limit:
            _, (freed, _) = self.values.popitem(last=False)
            self.held -= freed


def size_of(values: Any) -> int:
    """Bytes of all tensors in nested values."""
    return sum(
        value.nbytes for value in tree_leaves(values) if isinstance(value, torch.Tensor)
    )
