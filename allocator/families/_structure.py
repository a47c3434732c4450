"""Where the parts of a model are, whatever it is: any number of rows of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.families._blocks import either
from allocator.families._places import Place, Rest

if TYPE_CHECKING:
    from allocator.core.spec import Component
    from allocator.families._blocks import Readers, Row


# of `reads`: nobody knows which, and each may be
EVERY: tuple[int, ...] = ()
# of a `Rest`: how a reason begins that is none
UNPLACED = "its place is unknown"


@dataclass(frozen=True)
class Outside:
    """Linears outside any row, by full name, and the component that they belong to."""

    component: Component
    readers: Readers


@dataclass(frozen=True)
class Structure:
    """The parts of a model, in the order in which its forward pass comes to them.

    `rows` may be several of a component, and need be none of it. `reads` has for each
    row the numbers of the blocks whose outcome something behind the row reads
    (negative: from the end). `outside` are the linears between, `rests` what stays at
    16 bits.
    """

    rows: tuple[Row, ...]
    reads: tuple[tuple[int, ...], ...]
    outside: tuple[Outside, ...] = ()
    rests: tuple[Rest, ...] = ()

    def places(self, blocks: tuple[int, ...]) -> tuple[Place, ...]:
        """Patterns that put every grouped linear in its place.

        Args:
            blocks: how many each row has.
        """
        found: list[Place] = []
        passed: dict[str, int] = {}
        for row, count in zip(self.rows, blocks, strict=True):
            found += row.places(passed.get(row.component, 0))
            passed[row.component] = passed.get(row.component, 0) + count
        found += (
            Place(either(each.readers), each.component, each.readers.type)
            for each in self.outside
        )
        return tuple(found)
