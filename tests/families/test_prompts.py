"""prompts.json as people write it: what can be meant is used, the rest is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import AllocateError, ModelError
from allocator.core.prompts import filled
from allocator.families import _prompts
from allocator.families._prompts import read_prompts
from allocator.families._words import SHORT_ANSWERS
from allocator.families.blip2 import PROMPTS as BLIP2
from allocator.families.llava import PROMPTS as LLAVA

if TYPE_CHECKING:
    from pathlib import Path

USER = "USER: <image>\n{} ASSISTANT:"


@pytest.mark.parametrize(
    ("own", "gqa"),
    [
        ({}, None),
        ({"caption": "a"}, None),
        ({"vqa": "{}?"}, "{}?"),
        ({"vqa": "{}?", "gqa": "{}!"}, "{}!"),
    ],
)
def test_the_words_for_vqa_serve_for_gqa_where_a_folder_brings_no_others(
    own: dict[str, str], gqa: str | None, tmp_path: Path
) -> None:
    if own:
        (tmp_path / "prompts.json").write_text(json.dumps(own))
    assert read_prompts(tmp_path, BLIP2).get("gqa") == gqa


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("Q: {} A:", "Q: is {this} {} a %s? A:"),
        ("Q: {question} A:", "Q: is {this} {} a %s? A:"),
        (
            '{} as {"a": {0}} {{x}} %s',
            'is {this} {} a %s? as {"a": {0}} {{x}} %s',
        ),
        ("describe {it}", "describe {it}"),
        ("A: \n\n", "A: \n\n"),
    ],
)
def test_only_the_place_of_the_question_is_filled(prompt: str, asked: str) -> None:
    assert filled(prompt, "is {this} {} a %s?") == asked


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("{}", "a  b"),
        ("Q{}", "Q a  b"),
        ("{} A", "a  b  A"),
        ("Q{} A", "Q a  b  A"),
    ],
)
def test_spaces_around_a_question_do_not_begin_or_end_a_prompt(
    prompt: str, asked: str
) -> None:
    assert filled(prompt, " a  b ") == asked


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    text = json.dumps({"vqa": USER})
    (tmp_path / "prompts.json").write_text(text, encoding="utf-8-sig")
    assert read_prompts(tmp_path, LLAVA)["vqa"] == USER


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read as JSON"),
        ("{'vqa': '{}'}", "cannot be read as JSON"),
        ('["{}"]', "is not of the form"),
        ("null", "is not of the form"),
        ('{"vqa": ["{}"]}', "vqa is no text"),
        ('{"vqa": null}', "vqa is no text"),
        ('{"vqa": " "}', "vqa is no text"),
        ('{"vqa": "<image> {}", "vqa": "<image>"}', "'vqa' stands there twice"),
        ('{"vqa": "<image> {} \\ud800"}', "half a character"),
        ('{"vqav2": "<image> {}"}', r"Did you mean 'vqa'\?"),
        ('{"plain": "<image>"}', "0 places for the question, and it needs exactly one"),
        ('{"vqa": "<image> {{}}"}', "{{}}, .* takes single ones, {}"),
        ('{"vqa": "<image> {{question}}"}', "takes single ones, {question}"),
        ('{"vqa": "<image> <image_1> {}"}', "<image_1>, .* its place is <image>"),
        ('{"vqa": "<|image|> {}"}', "<|image|>, .* its place is <image>"),
        ('{"vqa": "<image> %s"}', "0 places for the question"),
        ('{"vqa": "<image> {0}"}', "0 places for the question"),
        ('{"vqa": "<image> {} {}"}', "2 places for the question"),
        ('{"vqa": "<image> {} {question}"}', "2 places for the question"),
        ('{"caption": "<image> {} {}"}', "2 places for the question, .* at most one"),
        (
            '{"vqa": "{}"}',
            "0 places for the picture, and it needs <image> exactly",
        ),
        ('{"vqa": "<image> <image> {}"}', "2 places for the picture"),
        ('{"caption": "a photo of"}', "0 places for the picture"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "prompts.json").write_text(text)
    with pytest.raises(ModelError, match=rf"prompts\.json.*{said}"):
        read_prompts(tmp_path, LLAVA)


@pytest.mark.parametrize("published", [BLIP2, SHORT_ANSWERS])
def test_a_picture_whose_place_is_elsewhere_has_none_in_a_prompt(
    published: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "prompts.json").write_text('{"vqa": "<image> {}"}')
    with pytest.raises(ModelError, match=r"1 places for the .* take <image> out"):
        read_prompts(tmp_path, published)


def test_published_prompts_are_ones_that_a_folder_could_bring(tmp_path: Path) -> None:
    for published in (BLIP2, LLAVA, SHORT_ANSWERS):
        (tmp_path / "prompts.json").write_text(json.dumps(published))
        assert read_prompts(tmp_path, published) == published


def test_a_file_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_bytes(json.dumps({"vqa": USER}).encode("utf-16"))
    with pytest.raises(AllocateError, match="cannot be read as JSON") as caught:
        read_prompts(tmp_path, LLAVA)
    assert "\n" not in str(caught.value)
    assert _prompts.PROMPTS_FILE in str(caught.value)


@pytest.mark.parametrize("place", ["<Image>", "[IMG]", "<image_1>", "<ImageHere>"])
def test_what_stands_for_a_picture_elsewhere_is_not_read_as_words(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps({"vqa": f"{place} {{}}"}))
    with pytest.raises(ModelError, match=r"shows no picture: take it out"):
        read_prompts(tmp_path, BLIP2)


@pytest.mark.parametrize("name", ["prompt.json", "Prompts.json"])
def test_prompts_under_a_name_that_nobody_reads_are_refused(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps({"vqa": USER}))
    with pytest.raises(ModelError, match=rf"{name}, .* name it prompts\.json"):
        read_prompts(tmp_path, LLAVA)


def test_braces_that_are_doubled_elsewhere_stay_text(tmp_path: Path) -> None:
    own = {"vqa": '<image> {} reply as {{"answer": ...}} [image of] (image)'}
    (tmp_path / "prompts.json").write_text(json.dumps(own))
    assert read_prompts(tmp_path, LLAVA)["vqa"] == own["vqa"]
