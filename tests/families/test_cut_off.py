"""Which replies were cut off: as long as may be, and without an end."""

from __future__ import annotations

import pytest

from allocator.core.ports import Decoding
from allocator.families._generation import Ends


class Letters:
    """A tokenizer of letters: 1 is a, 2 is b."""

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        del skip_special_tokens
        return "".join(" ab"[number] for number in ids)


# tokens 50 and 51 end a reply, 0 is padding
@pytest.mark.parametrize(
    ("rows", "cut"),
    [
        ([[1, 2, 1]], 1),
        ([[1, 2, 50]], 0),
        ([[1, 51, 0]], 0),
        ([[50, 0, 0], [1, 1, 2], [2, 2, 2]], 2),
        # the longest of a batch ended before it had to
        ([[1, 2]], 0),
        ([], 0),
    ],
)
def test_a_reply_without_an_end_is_cut_off(rows: list[list[int]], cut: int) -> None:
    assert Ends((50, 51)).lacking(rows, Letters(), Decoding(3)) == cut


def test_an_end_may_be_words() -> None:
    ends = Ends((), ("ab",))
    assert ends.lacking([[2, 1, 2]], Letters(), Decoding(3)) == 0
    assert ends.lacking([[2, 2, 1]], Letters(), Decoding(3)) == 1
