"""Counts what a device would be asked to do, and what would be waited for."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Iterator

# a device is waited for where a number leaves it, and where a shape depends on numbers
READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_dim")
# these start nothing: they look at the same memory
VIEWS = {
    *("view", "_unsafe_view", "_reshape_alias", "as_strided", "expand", "alias"),
    *("slice", "select", "unbind", "split", "diagonal", "broadcast_tensors"),
    *("t", "transpose", "permute", "unsqueeze", "squeeze", "detach", "lift_fresh"),
    *("empty", "empty_like", "new_empty"),
}


class Counted(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.reads = 0

    @property
    def launches(self) -> int:
        """Operations that a device would start."""
        return self.operations.total()

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), options: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        mask = name in ("index", "index_put", "index_put_") and any(
            each is not None and each.dtype == torch.bool for each in given[1]
        )
        if name in READS or mask:
            self.reads += 1
        elif name not in VIEWS:
            self.operations[name] += 1
        return function(*given, **(options or {}))


@contextmanager
def counted() -> Iterator[Counted]:
    """Count while something runs; `tolist` does not come by where others do."""
    plain = torch.Tensor.tolist
    with Counted() as mode:

        def tolist(tensor: torch.Tensor) -> Any:
            mode.reads += 1
            return plain(tensor)

        with patch.object(torch.Tensor, "tolist", tolist):
            yield mode
