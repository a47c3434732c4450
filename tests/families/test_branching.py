from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import Gemma2Config, LlamaConfig

from allocator.core.ports import Decoding
from allocator.families._branching import branches_of, can_branch, cut
from allocator.families._sharing import PICTURE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import State

# stands for a picture, and for padding that nobody reads
IMAGE, PAD = 4, 0


def prompts(texts: Sequence[Sequence[int]], picture: Sequence[int]) -> State:
    """Texts padded on the left, and the row of each one's picture."""
    longest = max(map(len, texts))
    gaps = [longest - len(text) for text in texts]
    return {
        "input_ids": torch.tensor(
            [[PAD] * gap + [*text] for gap, text in zip(gaps, texts, strict=True)]
        ),
        "attention_mask": torch.tensor(
            [[0] * gap + [1] * (longest - gap) for gap in gaps]
        ),
        PICTURE: torch.tensor(picture),
    }


def read(texts: State) -> list[list[int]]:
    """Tokens that are not masked, row by row."""
    rows = zip(texts["input_ids"], texts["attention_mask"], strict=True)
    return [ids[mask.bool()].tolist() for ids, mask in rows]


# one picture is asked twice, the other three times; both begin with 1 and four of IMAGE
SEEN = [1, IMAGE, IMAGE, IMAGE, IMAGE]
TEXTS = [[*SEEN, 7, 8], [*SEEN, 9], [*SEEN, 7, 6, 5, 8], [*SEEN, 9, 7], [*SEEN, 9, 8]]
ROWS = [0, 1, 0, 1, 1]


def test_a_picture_is_begun_with_once_and_its_questions_go_on() -> None:
    found = cut(prompts(TEXTS, ROWS), IMAGE, 1)
    assert found is not None
    # behind the pictures 2 x 5 tokens and then 5 x 4, as the longest question has them;
    # a token further, which the first picture's questions share, 2 x 6 and then 5 x 3
    assert read(found.begun) == [[*SEEN, 7], SEEN]
    assert read(found.whole) == TEXTS
    assert found.length == 6
    assert found.whole["input_ids"].shape == (5, 9)
    assert found.picture.tolist() == ROWS
    # what is masked shows no picture
    masked = found.whole["attention_mask"] == 0
    assert not (found.whole["input_ids"][masked] == IMAGE).any()
    masked = found.begun["attention_mask"] == 0
    assert not (found.begun["input_ids"][masked] == IMAGE).any()


def test_what_is_begun_with_ends_in_front_of_the_last_token() -> None:
    found = cut(prompts([[*SEEN, 7, 8]] * 3, [0, 0, 0]), IMAGE, 1)
    assert found is not None
    assert read(found.begun) == [[*SEEN, 7]]
    assert found.whole["input_ids"].shape == (3, 7)


def test_further_values_of_each_token_are_cut_alike() -> None:
    state = prompts(TEXTS, ROWS)
    state["token_type_ids"] = 10 * state["input_ids"]
    found = cut(state, IMAGE, 1)
    assert found is not None
    for texts in (found.begun, found.whole):
        assert torch.equal(texts["token_type_ids"], 10 * texts["input_ids"])


def test_padding_within_a_prompt_is_no_part_of_it() -> None:
    state = prompts(TEXTS, ROWS)
    # as BLIP-2 has it, whose pictures stand in front of the padding
    count = len(SEEN)
    gaps = (state["attention_mask"] == 0).sum(1).tolist()
    for row, gap in enumerate(gaps):
        for key in ("input_ids", "attention_mask"):
            values = state[key][row].clone()
            state[key][row] = torch.cat(
                [values[gap : gap + count], values[:gap], values[gap + count :]]
            )
    found, plain = cut(state, IMAGE, 1), cut(prompts(TEXTS, ROWS), IMAGE, 1)
    assert found is not None
    assert plain is not None
    assert read(found.begun) == read(plain.begun)
    assert read(found.whole) == TEXTS


@pytest.mark.parametrize(
    ("texts", "picture"),
    [
        # the question stands in front, in whole or in part
        ([[7, *SEEN, 2], [8, *SEEN, 2]], [0, 0]),
        ([[1, 7, IMAGE, IMAGE, 2], [1, 8, IMAGE, IMAGE, 2]], [0, 0]),
        # nothing is behind the picture
        ([SEEN, SEEN], [0, 0]),
        # a picture for each
        ([[*SEEN, 7], [*SEEN, 8]], [0, 1]),
        # the first picture takes four tokens of padding, more than are saved
        ([[*SEEN, 7], [IMAGE, *range(10, 30)], [IMAGE, *range(10, 30)]], [0, 1, 2]),
    ],
)
def test_where_nothing_is_saved_prompts_stay_whole(
    texts: list[list[int]], picture: list[int]
) -> None:
    assert cut(prompts(texts, picture), IMAGE, 1) is None


def test_beams_go_on_from_one_prompt_even_if_each_has_a_picture_of_its_own() -> None:
    texts = [[*SEEN, 7], [*SEEN, 8, 9]]
    state = prompts(texts, [0, 1])
    # the key is there only where pictures are shared
    del state[PICTURE]
    assert cut(state, IMAGE, 1) is None
    found = cut(state, IMAGE, 3)
    assert found is not None
    # all but the last token of each: 2 times 6 and 2 times 3 beams, not 6 times 7
    assert read(found.begun) == [SEEN, [*SEEN, 8]]
    assert read(found.whole) == texts


def module(config: Any, **advice: Any) -> Any:
    return SimpleNamespace(config=config, generation_config=SimpleNamespace(**advice))


def windowed(size: int) -> Any:
    return Gemma2Config(num_hidden_layers=2, sliding_window=size)


def test_a_window_has_to_hold_a_prompt_its_reply_and_the_padding_between() -> None:
    # no window
    assert can_branch(module(LlamaConfig(num_hidden_layers=2)), 10**6)
    assert can_branch(module(windowed(20)), 20)
    assert not can_branch(module(windowed(20)), 21)


@pytest.mark.parametrize("kind", ["linear_attention", "conv", "hybrid"])
def test_what_is_kept_of_tokens_in_a_row_is_not_branched_from(kind: str) -> None:
    config = LlamaConfig(num_hidden_layers=2)
    config.layer_types = ["full_attention", "full_attention"]
    assert can_branch(module(config), 10)
    config.layer_types = [kind, "full_attention"]
    assert not can_branch(module(config), 10)


@pytest.mark.parametrize(
    "rope", [{"rope_type": "dynamic", "factor": 2.0}, {"rope_type": "longrope"}]
)
def test_angles_that_depend_on_what_is_read_at_once_are_not_branched_from(
    rope: dict[str, Any],
) -> None:
    config = LlamaConfig(num_hidden_layers=2)
    config.rope_parameters = {"rope_theta": 10000.0, **rope}
    assert not can_branch(module(config), 10)
    # by kind of layer, as Gemma 3 has them
    config.rope_parameters = {"full_attention": config.rope_parameters}
    assert not can_branch(module(config), 10)


@pytest.mark.parametrize(
    "advice", [{"no_repeat_ngram_size": 2}, {"bad_words_ids": [[1, 2]]}]
)
def test_advice_about_words_in_a_row_keeps_prompts_whole(
    advice: dict[str, Any],
) -> None:
    state, config = prompts(TEXTS, ROWS), LlamaConfig(num_hidden_layers=2)
    assert branches_of(module(config), state, IMAGE, Decoding(5)) is not None
    assert branches_of(module(config, **advice), state, IMAGE, Decoding(5)) is None
