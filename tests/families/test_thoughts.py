"""Models that think: told not to where a template asks, read behind it elsewhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.ports import Decoding
from allocator.embedded import HERE
from allocator.families import family_of, has_switch
from allocator.families._generation import Ends
from allocator.families._thoughts import answer_in, begun
from tests.families.processors import two_samples
from tests.states import prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample

# how templates are switched: Qwen3's, MiniCPM-V 4.5's, SmolLM3's, GLM-4.5V's
SWITCHES = {
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}": "<think>\n\n</think>\n\n",
    "{% if enable_thinking is defined %}{% if enable_thinking is false %}"
    "<think></think>{% else %}<think>{% endif %}{% endif %}": "<think></think>",
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{{ '/think' if enable_thinking else '/no_think' }}": "/no_think",
    "{% macro end() %}{{ '/fast' if enable_thinking is defined and "
    "not enable_thinking }}{% endmacro %}{{ end() }}": "/fast",
    # of models that cannot be told
    "{{ '<think>\n' }}": "<think>\n",
    "": "",
}
SHOWN = (
    "{% for m in messages %}USER: {% for p in m.content %}"
    "{% if p.type == 'image' %}<image>\n{% else %}{{ p.text }}{% endif %}"
    "{% endfor %} ASSISTANT:{% endfor %}"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded LLaVA, without words of its own."""
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    (folder / "prompts.json").unlink()
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Three questions about two pictures."""
    first, second = two_samples(tmp_path)
    return [first, replace(first, id="2", text="what colour is it"), second]


def mark(folder: Path, *marks: str, special: bool = False) -> list[int]:
    """Make tokens of marks, in the place of the last words that a model knows."""
    file = folder / "tokenizer.json"
    kept = json.loads(file.read_text())
    words = list(kept["model"]["vocab"].items())
    numbers = []
    for (word, number), name in zip(words[-len(marks) :], marks, strict=True):
        del kept["model"]["vocab"][word]
        kept["model"]["vocab"][name] = number
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = {"id": number, "content": name, **flags, "special": special}
        kept["added_tokens"].append(added)
        numbers.append(number)
    file.write_text(json.dumps(kept))
    return numbers


@pytest.mark.parametrize(("switch", "said"), SWITCHES.items())
def test_a_template_that_asks_is_told_not_to_think(
    switch: str, said: str, folder: Path, samples: list[Sample]
) -> None:
    (folder / "chat_template.jinja").write_text(SHOWN + switch)
    model: Any = family_of(folder).outline(folder)
    (told,) = {model.worded(s).partition("ASSISTANT:")[2] for s in samples}
    assert told == said
    assert has_switch(folder) == ("enable_thinking" in switch)
    # samples are sorted by what the model reads, the template's own words too
    lengths = model.inputs(samples)["attention_mask"].sum(1).tolist()
    assert model.lengths(samples) == lengths


@pytest.mark.parametrize(
    "file", ["chat_template.json", "processor_config.json", "tokenizer_config.json"]
)
def test_a_switch_is_found_wherever_a_folder_has_its_template(
    file: str, folder: Path
) -> None:
    assert not has_switch(folder)
    there = folder / file
    kept = json.loads(there.read_text()) if there.exists() else {}
    template = SHOWN + next(iter(SWITCHES))
    there.write_text(json.dumps({**kept, "chat_template": template}))
    assert has_switch(folder)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("red", "red"),
        ("<think>Is it blue?</think>\n\nred", "red"),
        # a template had begun it
        ("Is it blue?\n</think>\n\nred", "red"),
        ("<think>\n\n</think>\n\nred", "red"),
        ("<think>a</think> blue <think>b</think> red", "red"),
        ("<think>Is it blue, or", ""),
        ("<think>a</think> red <think>or", ""),
        ("<think>a</think>", ""),
        ("◁think▷Is it?◁/think▷red", "red"),
        ("◁think▷Is it", ""),
        ("[THINK]Is it?[/THINK]red", "red"),
        ("<|channel>thought\nIs it?<channel|>red", "red"),
        ("<|channel>thought\nIs it", ""),
        ("<think>a</think>It is <|begin_of_box|>red<|end_of_box|>.", "red"),
        ("<|begin_of_box|>a<|end_of_box|> or <|begin_of_box|>red", "red"),
        # words that only look alike
        ("i think it is <b>red</b>", "i think it is <b>red</b>"),
    ],
)
def test_an_answer_stands_behind_the_last_thought(text: str, answer: str) -> None:
    assert answer_in(text) == answer


@dataclass
class Letters:
    """A tokenizer of single characters, and of marks that are tokens of their own."""

    marks: dict[int, str]
    special: bool
    unk_token: None = None
    unk_token_id: None = None

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return {mark: number for number, mark in self.marks.items()}.get(token)

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        hidden = self.marks if self.special and skip_special_tokens else ()
        return "".join(
            self.marks.get(number, chr(number))
            for number in ids
            if number not in hidden
        )


# the numbers of marks, if they are tokens; they may be special ones
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("marks", [{}, {1: "<think>", 2: "</think>"}])
def test_marks_are_seen_whatever_tokens_they_are(
    marks: dict[int, str], special: bool
) -> None:
    def ids(text: str) -> list[int]:
        for number, mark in marks.items():
            text = text.replace(mark, chr(number))
        return [ord(each) for each in text]

    tokenizer = Letters(marks, special)
    prompts = [ids("is it?"), ids("is it?<think>\n"), ids("is it?<think></think>\n")]
    assert [begun(each, tokenizer) for each in prompts] == ["", "<think>", ""]
    ends = Ends((ord("$"),), ("##",))
    rows = [
        ("red$", ["red", "", "red"]),
        ("or</think>\n red$", ["red", "red", "red"]),
        ("<think>or</think>red## no", ["red", "red", "red"]),
        ("<think>## or</think>red", ["red", "red", "red"]),
        ("<think>or", ["", "", ""]),
        ("or $</think>red", ["or", "", "or"]),
    ]
    for said, replies in rows:
        assert ends.replies([ids(said)] * 3, tokenizer, prompts) == replies


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("opened", [False, True])
def test_a_model_replies_with_what_stands_behind_its_thought(
    special: bool,
    opened: bool,
    folder: Path,
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, last = mark(folder, "<think>", "</think>", special=special)
    begin = "<think>" if opened else ""
    (folder / "chat_template.jinja").write_text(SHOWN + begin)
    model: Any = family_of(folder).load(folder, "cpu")
    tokenizer = model.processor.tokenizer
    red, blue = tokenizer.convert_tokens_to_ids(["red", "blue"])
    end, begins = tokenizer.eos_token_id, [] if opened else [first]
    said = [
        [*begins, blue, last, red, end],
        # no thought, where the prompt has begun none
        [red, end],
        # one that does not end
        [*begins, blue, blue, blue, blue, blue],
    ]
    longest = max(map(len, said))
    rows = torch.tensor([[*row, *[0] * (longest - len(row))] for row in said])
    monkeypatch.setattr(type(model), "reply_ids", lambda *_: rows)
    state = prefixed(model, model.inputs(samples))
    replies = model.predict([state], samples, Decoding(longest), lambda _: None)
    assert replies == ["red", "" if opened else "red", ""]
    assert model.cut_off == 1


@pytest.mark.parametrize("beams", [1, 3])
def test_questions_branch_behind_a_thought_that_a_template_ends(
    beams: int, folder: Path, samples: list[Sample]
) -> None:
    mark(folder, "<think>", "</think>")
    (folder / "chat_template.jinja").write_text(SHOWN + next(iter(SWITCHES)))
    model: Any = family_of(folder).load(folder, "cpu")
    batch = model.inputs(samples)
    with torch.inference_mode():
        found = model.reply_ids(prefixed(model, batch), Decoding(4, beams=beams))
        texts = model.predict(
            [prefixed(model, batch)], samples, Decoding(4, beams=beams), lambda _: None
        )
        alone = [
            model.predict(
                [prefixed(model, model.inputs([each]))],
                [each],
                Decoding(4, beams=beams),
                lambda _: None,
            )[0]
            for each in samples
        ]
    assert len(found) == 3
    assert texts == alone
