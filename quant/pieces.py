"""Work in pieces that memory holds; what did not fit once is not tried again."""

from __future__ import annotations

import gc
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch

from allocator.core.errors import BankError, reason
from allocator.core.full import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Given = TypeVar("Given")


@dataclass
class Pieces:
    """Runs parts of some work at a time, halved wherever memory does not suffice.

    Attributes:
        limits: by kind of work the size up to which a piece is run, since a larger one
            did not fit; kinds without one always did.
        say: is told when something is cut for the first time.
    """

    limits: dict[str, int] = field(default_factory=dict)
    say: Callable[[str], object] = lambda _: None

    def run(
        self,
        whole: Sequence[Any],
        run: Callable[[Sequence[Any]], Given],
        kind: str = "",
    ) -> Iterator[Given]:
        """What `run` gives for each piece of some work, the whole of it if it fits.

        Args:
            whole: all parts.
            run: begins anew for each piece.
            kind: pieces of one kind and size take about as much memory.

        Raises:
            AllocateError: a part does not fit alone.
        """
        left = deque([whole])
        while left:
            # by what is known by now
            piece, *more = self._cut(left.popleft(), kind)
            left.extendleft(reversed(more))
            try:
                given = run(piece)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(piece, kind, error)
            else:
                yield given
                continue
            # behind the handler, since the error holds on to what is to be freed
            free()
            left.appendleft(piece)

    def size(self, piece: Sequence[Any], kind: str) -> int:
        """What memory grows with: how many parts there are, unless it is known."""
        del kind
        return len(piece)

    def refuse(self, part: Any, error: Exception) -> NoReturn:
        """Say that a part does not fit alone."""
        raise BankError(f"{part} does not fit into memory: {reason(error)}") from None

    def _cut(self, whole: Sequence[Any], kind: str) -> list[Sequence[Any]]:
        """Pieces of at most the limit, each as large as possible."""
        limit = self.limits.get(kind)
        if limit is None or self.size(whole, kind) <= limit:
            return [whole]
        pieces, start = [], 0
        for end in range(1, len(whole) + 1):
            fits = end < len(whole) and self.size(whole[start : end + 1], kind) <= limit
            if not fits:
                pieces.append(whole[start:end])
                start = end
        return pieces

    def _halve(self, piece: Sequence[Any], kind: str, error: Exception) -> None:
        if len(piece) == 1:
            self.refuse(piece[0], error)
        if not self.limits:
            self.say("memory does not suffice for whole batches: going on in halves")
        half = max(self.size(piece[:1], kind), self.size(piece, kind) // 2)
        self.limits[kind] = half


@dataclass
class Widths(Pieces):
    """Solves some widths of a sibling set at a time.

    Attributes:
        weights: of the set that is solved; memory grows with them too.
        what: the set, by the names of its linears.
    """

    weights: int = 0
    what: str = ""

    def size(self, piece: Sequence[Any], kind: str) -> int:
        """Codes."""
        del kind
        return len(piece) * self.weights

    def refuse(self, part: Any, error: Exception) -> NoReturn:
        """Say that a set does not fit at one width."""
        raise BankError(
            f"quantizing {self.what} ({self.weights:,} weights) at {part} bits takes "
            f"more memory than there is, even alone ({reason(error)}): end what else "
            "runs here, or take a device with more; what is finished is kept"
        ) from None


def free() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def enough_memory(what: str, device: str) -> Iterator[None]:
    """Say of what memory did not suffice for, and how much that asked for.

    Args:
        what: is done, as a sentence begins with it.
        device: whose memory it is.

    Raises:
        BankError: it did not. Other errors pass.
    """
    try:
        yield
    except BankError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        other = "a machine with more" if device.startswith("cpu") else "--device cpu"
        raise BankError(
            f"{what} takes more memory than {device} has free ({reason(error)}): end "
            f"what else runs there, or take {other}; what is finished is kept"
        ) from error
