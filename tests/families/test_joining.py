"""Sets of linears of several kinds of blocks, brought to those that hold in all."""

from __future__ import annotations

import pytest

from allocator.families._blocks import Readers
from allocator.families._joining import joined

ATTENTION = [Readers("q k v", "attn", "norm"), Readers("o", "attn", "v")]
DENSE = [Readers("gate up", "ff", "norm2", 1.0), Readers("down", "ff", "up")]


@pytest.mark.parametrize(
    ("found", "others", "wanted"),
    [
        # nothing yet, and the same again
        ([], ATTENTION, ATTENTION),
        (ATTENTION, ATTENTION, ATTENTION),
        # what the second block has more of stands where it comes to it
        (DENSE, [*ATTENTION, *DENSE], [*ATTENTION, *DENSE]),
        ([*ATTENTION, *DENSE], [Readers("mix", "attn"), *DENSE], None),
        # keys that a block lacks stay with its queries, and split where it parts them
        (ATTENTION, [Readers("q", "attn", "norm"), ATTENTION[1]], ATTENTION),
        (
            ATTENTION[:1],
            [Readers("q", "attn", "norm"), Readers("k v", "attn")],
            [Readers("q", "attn"), Readers("k v", "attn")],
        ),
        # a fold of one block alone is none
        (
            DENSE[:1],
            [Readers("gate up", "ff")],
            [Readers("gate up", "ff")],
        ),
        (
            DENSE[:1],
            [Readers("gate up", "ff", "norm2")],
            [Readers("gate up", "ff")],
        ),
        # attention that shows itself in one block is attention
        ([Readers("q", "ff")], [Readers("q", "attn")], [Readers("q", "attn")]),
        ([Readers("q", "all")], [Readers("q", "ff")], [Readers("q", "ff")]),
    ],
)
def test_sets_are_those_of_all_blocks(
    found: list[Readers], others: list[Readers], wanted: list[Readers] | None
) -> None:
    if wanted is None:
        wanted = [*ATTENTION, Readers("mix", "attn"), *DENSE]
    assert joined(found, others) == wanted
