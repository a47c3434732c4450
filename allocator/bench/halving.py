"""Where memory does not suffice: the same batch in halves, and so from then on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from allocator.core.errors import ModelError
from quant.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.ports import Sample


@dataclass
class Halving(Pieces):
    """Runs batches of samples in pieces that memory holds.

    Remembered is, by kind of work, how large a piece may be: samples times the tokens
    of the longest prompt. So of later batches those of that shape or larger are cut
    before they are tried, and smaller ones are not. Other runs begin anew: what else
    takes memory may be gone by then, and the same batches give the same replies.

    What is cut depends on what else takes memory: replies may differ in the last digit
    from those of whole batches.

    Attributes:
        lengths: tokens of each sample's prompt; None: all count as equally long.
    """

    lengths: Callable[[Sequence[Sample]], Sequence[int]] | None = None
    _known: dict[str, int] = field(default_factory=dict)

    def size(self, piece: Sequence[Any], kind: str) -> int:
        """Samples, times the tokens of the longest prompt."""
        del kind
        if self.lengths is None:
            return len(piece)
        new = [sample for sample in piece if sample.id not in self._known]
        if new:
            found = self.lengths(new)
            self._known |= {x.id: n for x, n in zip(new, found, strict=True)}
        return len(piece) * max(1, *(self._known[sample.id] for sample in piece))

    def refuse(self, part: Any, error: Exception) -> NoReturn:
        """Say that a sample does not fit alone."""
        del error
        raise ModelError(
            f"sample {part.id} does not fit into memory, even alone: take a device "
            "with more, a lower --cache-memory, or end what else runs there"
        ) from None
