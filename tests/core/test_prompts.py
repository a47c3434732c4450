"""Prompts that somebody gives: what cannot be meant is refused in a sentence."""

from __future__ import annotations

import pytest

from allocator.core.errors import SpecError
from allocator.core.prompts import check_prompt, filled
from allocator.core.study import StudySpec


@pytest.mark.parametrize(
    "prompt",
    [
        "Question: {question} Answer briefly.",
        "Question: {}\nAnswer:",
        "a photo of",
        # other braces, signs and breaks are text
        'Reply as {"answer": ...}: {question}',
        "{question} Write \\neq for what differs, 100 %s, {0}",
        "an image of <b>{question}</b> [now]",
    ],
)
def test_what_can_be_meant_is_taken(prompt: str) -> None:
    check_prompt(prompt)
    assert filled(prompt, "why?").count("why?") == ("{" in prompt)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "is blank"),
        (" \n", "is blank"),
        ("{} {}", "has 2 places for the question, .* at most one {} or {question}"),
        ("{question} or {}", "has 2 places"),
        ("{{question}}", "has {{question}}, .* single ones, {question}"),
        ("{{}}", "has {{}}"),
        ("a \ud800 b {}", "half a character"),
        # as an argument that is no UTF-8 arrives
        ("12 \udce9 {}", "half a character"),
        ("<image>{}", "has <image>, and the picture has a place of its own"),
        ("{image} {question}", "has {image}"),
        ("<|image_pad|> {}", "has <|image_pad|>"),
        ("[IMG] {}", r"has \[IMG\]"),
        ("<start_of_image> {}", "has <start_of_image>"),
        ("<image_soft_token> {}", "has <image_soft_token>"),
        ("<IMG_CONTEXT> {}", "has <IMG_CONTEXT>"),
        ("Question: {question}\\nAnswer:", r"has \\n written out"),
        ("{question}\\n", r"has \\n written out"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_every_request(
    prompt: str, said: str
) -> None:
    said = said.replace("{", r"\{").replace("}", r"\}").replace("|", r"\|")
    with pytest.raises(SpecError, match=said) as caught:
        StudySpec("4", "vqav2", prompt=prompt)
    assert "\n" not in str(caught.value)


def test_of_a_long_prompt_the_beginning_is_shown() -> None:
    with pytest.raises(SpecError) as caught:
        check_prompt("{} {}" + "a" * 10_000)
    assert len(str(caught.value)) < 600
