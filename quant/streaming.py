"""Run a model piece by piece: only what a stage uses is in memory, as it computes."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from allocator.core.drafts import draft_file
from allocator.core.full import full, is_full
from allocator.core.memory import has_room, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import State

# bytes of activations kept in memory between two stages; what goes beyond is mapped
# from a file that has no name any more, so that nothing of it outlives the process
HELD_BYTES = 2**28
SPOOLED = ".spool-"
REMEDY = (
    "free some, and give the same command again, or calibrate on fewer samples "
    "(--calibration)"
)


@contextmanager
def in_memory(
    module: Any, uses: Sequence[str], device: str
) -> Iterator[frozenset[int]]:
    """Load the weights of some parts for computing, and let them go afterwards.

    On a CPU they compute in float32, on an accelerator as they are stored. Gives the
    identities of what is loaded; other values may be put in its place meanwhile.

    Args:
        module: its weights may be views of a file; they are the same afterwards.
        uses: full names of modules and parameters.
        device: where to compute.
    """
    dtype = torch.float32 if device.startswith("cpu") else None
    before: list[tuple[Tensor, Tensor]] = []
    try:
        for tensor in _tensors(module, uses):
            before.append((tensor, tensor.data))
            floating = tensor.is_floating_point()
            tensor.data = tensor.data.to(device, dtype if floating else None)
        yield frozenset(id(tensor) for tensor, _ in before)
    finally:
        for tensor, data in before:
            tensor.data = data


def _tensors(module: Any, uses: Sequence[str]) -> list[Tensor]:
    """Parameters and buffers below some names; tied ones once."""
    named = chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
    starts = tuple(f"{name}." for name in uses)
    found = {
        id(tensor): tensor
        for name, tensor in named
        if name in uses or name.startswith(starts)
    }
    return list(found.values())


@dataclass
class Spool:
    """States between two stages; their tensors are moved to disk beyond a bound.

    Raises:
        FullError: the disk is full.
    """

    folder: Path
    device: str
    limit: int = field(default_factory=lambda: share(1 / 16, HELD_BYTES))
    _states: list[State] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._states)

    def append(self, state: State) -> None:
        """Keep another state."""
        self._states.append({})
        self._sizes.append(0)
        self[len(self) - 1] = state

    def __getitem__(self, index: int) -> State:
        state: State = tree_map(
            lambda value: _moved(value, self.device), self._states[index]
        )
        return state

    def __setitem__(self, index: int, state: State) -> None:
        # what it replaces goes first, so that there is room for it
        self._states[index], self._sizes[index] = {}, 0
        size = sum(_bytes(value) for value in tree_leaves(state))
        if sum(self._sizes) + size > self.limit or not has_room(size):
            state = tree_map(self._mapped, state)
            size = 0
        self._states[index], self._sizes[index] = state, size

    def _mapped(self, value: Any) -> Any:
        """A value whose tensors lie in a file; small ones are left where they are."""
        if not isinstance(value, torch.Tensor) or value.nbytes < 2**16:
            return value
        with draft_file(self.folder, SPOOLED) as file:
            try:
                # asked for at once: writing into a mapped hole of a full disk is a
                # crash
                with file.open("wb") as opened:
                    os.posix_fallocate(opened.fileno(), 0, value.nbytes)
                stored = torch.from_file(
                    str(file), shared=True, size=value.numel(), dtype=value.dtype
                )
            except OSError as error:
                if not is_full(error):
                    raise
                raise full(
                    self.folder, "a batch of activations", value.nbytes, REMEDY
                ) from None
        return stored.view(value.shape).copy_(value)


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, torch.Tensor) else 0


def _moved(value: Any, device: str) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value
