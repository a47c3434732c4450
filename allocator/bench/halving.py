"""Where memory does not suffice: the same batch in halves, and so from then on."""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.core.ports import Sample

Given = TypeVar("Given")

# how torch says on a CPU, by a plain RuntimeError, that there is not enough memory
SAID_BY_TORCH = ("can't allocate memory", "not enough memory")


@dataclass
class Halving:
    """Runs batches in pieces that memory holds; remembers how large these may be.

    What is cut depends on what else takes memory: replies may differ in the last digit
    from those of whole batches.

    Attributes:
        most: samples that run at once since memory did not suffice; None: it always
            did.
        say: is told when that changes.
    """

    most: int | None = None
    say: Callable[[str], object] = lambda _: None

    def run(
        self,
        batch: Sequence[Sample],
        run: Callable[[Sequence[Sample]], Given],
    ) -> Iterator[Given]:
        """What `run` gives for each piece of a batch, the batch itself if it fits.

        Args:
            batch: to be run.
            run: begins anew for each piece.

        Raises:
            ModelError: a sample does not fit alone.
        """
        left = deque(self._cut(batch))
        while left:
            piece = left.popleft()
            try:
                given = run(piece)
            except Exception as error:
                if not ran_out(error):
                    raise
                self._halve(piece)
            else:
                yield given
                continue
            # behind the handler, since the error holds on to what is to be freed
            free()
            left.extendleft(reversed(self._cut(piece)))

    def _cut(self, batch: Sequence[Sample]) -> list[Sequence[Sample]]:
        if self.most is None or len(batch) <= self.most:
            return [batch]
        return [batch[n : n + self.most] for n in range(0, len(batch), self.most)]

    def _halve(self, piece: Sequence[Sample]) -> None:
        if len(piece) == 1:
            raise ModelError(
                f"sample {piece[0].id} does not fit into memory, even alone: take a "
                "device with more, a lower --cache-memory, or end what else runs there"
            ) from None
        if self.most is None:
            self.say("memory does not suffice for whole batches: going on in halves")
        self.most = len(piece) // 2


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that there is not enough memory."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(
            text in str(error) for text in SAID_BY_TORCH
        ):
            return True
        error = error.__cause__
    return False


def free() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
