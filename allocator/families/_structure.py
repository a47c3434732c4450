"""Where the parts of a model are, whatever it is: any number of rows of blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.families._blocks import either
from allocator.families._places import Place, Rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.spec import Component
    from allocator.families._blocks import Readers, Row


# of `reads`: nobody knows which, and each may be
EVERY: tuple[int, ...] = ()
# of a `Rest`: how a reason begins that is none
UNPLACED = "its place is unknown"
# of a `Rest`: parameters that are multiplied, and are neither linears nor experts
MATRIX = "a matrix that is no linear layer, kept at 16 bit"


# what configurations call the layers of a tower that are read
NAMING = re.compile(r"feature_layer|deepstack|select_layer|intermediate_layers|out_ind")


def named_blocks(config: Any, count: int) -> set[int]:
    """Numbers of blocks of a row that a configuration may mean: some too many.

    Numbers count hidden states, of which 0 stands before all blocks, or blocks.

    >>> sorted(named_blocks({"vision_feature_layer": [3, -2]}, 24))
    [2, 3, 22]
    """
    return {
        number
        for value in named_numbers(config)
        for number in ((value - 1, value) if value >= 0 else (count + value,))
        if 0 <= number < count
    }


def named_numbers(value: Any, *, named: bool = False) -> Iterator[int]:
    """The numbers by which a configuration says which layers of a tower are read."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from named_numbers(each, named=NAMING.search(str(key)) is not None)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from named_numbers(each, named=named)
    elif named and isinstance(value, int) and not isinstance(value, bool):
        yield value


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
    16 bits. `named` tells of each row whether the configuration names further ones,
    which `fitted` looks up.
    """

    rows: tuple[Row, ...]
    reads: tuple[tuple[int, ...], ...]
    outside: tuple[Outside, ...] = ()
    rests: tuple[Rest, ...] = ()
    named: tuple[bool, ...] = ()

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
