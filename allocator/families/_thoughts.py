"""What a model thinks before it answers, and where its answer begins."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# what begins and ends a thought: of Qwen3, GLM-V, MiniCPM-V and most others; of Kimi-VL
# (https://huggingface.co/moonshotai/Kimi-VL-A3B-Thinking); of Magistral; of Gemma 4
# (https://ai.google.dev/gemma/docs/core/prompt-formatting-gemma4)
MARKS = (
    ("<think>", "</think>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>", "<channel|>"),
)
# what GLM-V puts around the answer itself, be it within a sentence
# (https://github.com/zai-org/GLM-V)
BOX = ("<|begin_of_box|>", "<|end_of_box|>")
# tokens at the end of a prompt in which a template may begin a thought
LAST = 16


def begun(ids: Sequence[int], tokenizer: Any) -> str:
    """The mark with which a prompt ends, if it begins a thought; else nothing.

    Qwen3-VL's thinking models are asked so, and reply without that mark
    (https://github.com/QwenLM/Qwen3-VL/issues/1750).
    """
    text = spoken(ids[-LAST:], tokenizer).rstrip()
    return next((first for first, _ in MARKS if text.endswith(first)), "")


def spoken(ids: Sequence[int], tokenizer: Any) -> str:
    """Tokens as text without special ones, but for those that mark thoughts."""
    marks = {
        number: mark
        for mark in (mark for pair in MARKS for mark in pair)
        if (number := number_of(tokenizer, mark)) is not None
    }
    told = []
    for is_mark, run in groupby(ids, marks.__contains__):
        several = list(run)
        told += (
            [marks[number] for number in several]
            if is_mark
            else [tokenizer.decode(several, skip_special_tokens=True)]
        )
    return "".join(told)


def answer_in(text: str) -> str:
    """What stands behind the last thought; nothing where that does not end.

    >>> answer_in("<think>It is blue. Or</think> It is red. ")
    'It is red.'
    >>> answer_in("<think>It is blue. Or")
    ''
    """
    for _, last in MARKS:
        text = text.rpartition(last)[2]
    if any(first in text for first, _ in MARKS):
        return ""
    return text.rpartition(BOX[0])[2].partition(BOX[1])[0].strip()


def number_of(tokenizer: Any, token: str) -> int | None:
    """A token's number; None for what is not one token of its own."""
    number: int | None = tokenizer.convert_tokens_to_ids(token)
    unknown = number == tokenizer.unk_token_id and token != tokenizer.unk_token
    return None if unknown else number
