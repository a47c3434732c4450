"""What a run takes: counters that whoever does the work adds to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from allocator.core.spec import COMPONENTS

if TYPE_CHECKING:
    from allocator.core.spec import Component


@dataclass
class Cost:
    """Counters of a bench, shared by all that works on the same model.

    Attributes:
        scored: samples that were replied to, or ranked.
        looked: samples whose next tokens were looked at.
        tokens: rows that passed through the first linear of each component; of an
            encoder and a decoder those of the encoder.
        swaps: allocations put in place that changed any weight.
        weights_swapped: weights that these exchanged.
        bytes_read: of cells, from disk or from memory that stands for it.
        ran: samples times blocks that ran: of looks and probes all of them, of replies
            those of the prefix; a stage with linears in groups counts as a block.
        reused: samples times blocks whose outcome was kept.
    """

    scored: int = 0
    looked: int = 0
    tokens: Counter[Component] = field(default_factory=Counter)
    swaps: int = 0
    weights_swapped: int = 0
    bytes_read: int = 0
    ran: int = 0
    reused: int = 0

    def copy(self) -> Cost:
        """The counters as they are now."""
        return replace(self, tokens=Counter(self.tokens))

    def __add__(self, other: Cost) -> Cost:
        return self._with(other, 1)

    def __sub__(self, other: Cost) -> Cost:
        return self._with(other, -1)

    def _with(self, other: Cost, sign: int) -> Cost:
        sums: dict[str, Any] = {
            f.name: getattr(self, f.name) + sign * getattr(other, f.name)
            for f in fields(self)
            if f.name != "tokens"
        }
        tokens = Counter(self.tokens)
        for component, rows in other.tokens.items():
            tokens[component] += sign * rows
        return Cost(tokens=tokens, **sums)

    def to_json(self) -> dict[str, Any]:
        """Plain data, tokens by component."""
        tokens = {name: self.tokens[name] for name in COMPONENTS}
        return {**vars(self), "tokens": tokens}
