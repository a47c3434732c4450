"""Which replies were cut off: as long as may be, and without an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.ports import Decoding
from allocator.embedded import HERE
from allocator.families import family_of
from allocator.families._generation import Ends
from tests.families.processors import two_samples
from tests.states import prefixed

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("beams", [1, 2])
def test_a_reply_ends_where_a_model_has_no_places_for_more(
    beams: int, tmp_path: Path
) -> None:
    """An OPT looks places up: one too many would be no reply, but an index error."""
    model: Any = family_of(HERE / "tiny-blip2").load(HERE / "tiny-blip2", "cpu")
    samples = two_samples(tmp_path)
    state = model.inputs(samples)
    places = model.module.config.text_config.max_position_embeddings
    longest = int(state["attention_mask"].sum(1).max())

    def go_on(_: Any, __: Any, logits: Any) -> Any:
        logits = logits.clone()
        logits[..., model.ends.ids] = -1e4
        return logits

    head = model.module.language_model.get_output_embeddings()
    hook = head.register_forward_hook(go_on)
    with torch.inference_mode():
        seen = [prefixed(model, state)]
        replies = model.predict(seen, samples, Decoding(500, beams), lambda _: None)
    hook.remove()
    # the last token is said, and not read
    most = places - longest + 1
    words = [len(model.processor.tokenizer(reply).input_ids) for reply in replies]
    assert 1 < max(words) <= most + 1
    assert model.cut_off == 2
