"""Chat templates as folders bring them: used where they are sound, never in silence."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError, ModelError
from allocator.core.ports import Sample
from allocator.embedded import HERE
from allocator.families import family_of
from allocator.families.llava import PROMPTS

if TYPE_CHECKING:
    from pathlib import Path

# that of llava-hf/llava-1.5-7b-hf, in chat_template.json
PUBLISHED = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': '}}{% endif %}{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}"
    "{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
INSTRUCT = (
    "{% for m in messages %}[INST] {% for p in m.content %}"
    "{% if p.type == 'image' %}<image>\n{% else %}{{ p.text }}{% endif %}"
    "{% endfor %} [/INST]{% endfor %}"
)
SHORT = "Answer the question using a single word or phrase."
TOLD = f"[INST] <image>\nwhat is it\n{SHORT} [/INST]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded LLaVA, without words of its own."""
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    (folder / "prompts.json").unlink()
    return folder


def asked(folder: Path, kind: str = "vqa", text: str = "what is it") -> str:
    model = family_of(folder).outline(folder)
    sample = Sample("q7", folder / "none.png", kind, text, ("red",))
    return str(model.worded(sample))  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", PROMPTS)
def test_the_published_template_makes_the_published_prompts(
    kind: str, folder: Path
) -> None:
    without = asked(folder, kind)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": PUBLISHED}))
    assert asked(folder, kind) == without


@pytest.mark.parametrize(
    "file",
    [
        "chat_template.jinja",
        "chat_template.json",
        "tokenizer_config.json",
        "processor_config.json",
    ],
)
def test_a_template_is_found_wherever_a_folder_has_it(file: str, folder: Path) -> None:
    if file.endswith("jinja"):
        (folder / file).write_text(INSTRUCT)
    else:
        there = folder / file
        kept = json.loads(there.read_text()) if there.exists() else {}
        there.write_text(json.dumps({**kept, "chat_template": INSTRUCT}))
    assert asked(folder) == TOLD


def test_of_several_templates_the_usual_one_is_used(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    kept = json.loads(file.read_text())
    several = [{"name": "tool_use", "template": "x"}]
    for named in ("default", "other"):
        own = [{"name": named, "template": INSTRUCT}, *several]
        file.write_text(json.dumps({**kept, "chat_template": own}))
        if named == "default":
            assert asked(folder) == TOLD
    with pytest.raises(ModelError, match="other, tool_use, and none of them is named"):
        asked(folder)


def test_own_prompts_come_before_a_template_kind_by_kind(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(INSTRUCT)
    (folder / "prompts.json").write_text('{"vqa": "Q <image> {} A"}')
    assert asked(folder) == "Q <image> what is it A"
    assert asked(folder, "plain") == "[INST] <image>\nwhat is it [/INST]"


def test_a_template_that_knows_texts_alone_gets_the_picture_as_text(
    folder: Path,
) -> None:
    text = "{% for m in messages %}[INST] {{ m['content'] | trim }} [/INST]{% endfor %}"
    (folder / "chat_template.jinja").write_text(text)
    assert asked(folder) == TOLD


def test_a_date_in_a_template_is_always_the_same(folder: Path) -> None:
    dated = "Today is {{ strftime_now('%d %b %Y') }}. "
    (folder / "chat_template.jinja").write_text(dated + INSTRUCT)
    assert asked(folder) == f"Today is 26 Jul 2024. {TOLD}"


TEXTS = "{% for p in messages[0].content if p.type == 'text' %}{{ p.text }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no pictures here') }}", "fails: .*no pictures here"),
        ("{% for m in messages %}", "fails: TemplateSyntaxError"),
        ("{{ nothing.at.all }}", "fails: UndefinedError"),
        ("", "does not show the picture"),
        (TEXTS, "does not show the picture"),
        ("<image> describe", "the question once each"),
        (
            "<image>" + TEXTS.replace("p.text", "p.text | upper"),
            "the question once each",
        ),
        ("<image>" + TEXTS + TEXTS, "the question once each"),
        ("<image><image>" + TEXTS, "does not show the picture"),
        ("<image>{{ messages[0].content }}", "does not show the picture"),
        ("<image>{{ messages[0].content | tojson }}", "does not show the picture"),
    ],
)
def test_a_template_that_loses_something_is_one_sentence(
    template: str, said: str, folder: Path
) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=f"the chat template of .*{said}") as caught:
        asked(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json"])
def test_a_model_that_is_asked_without_a_template_does_not_hide_one(
    file: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-blip2", folder)
    json_text = json.dumps({"chat_template": INSTRUCT})
    (folder / file).write_text(INSTRUCT if file.endswith("jinja") else json_text)
    assert asked(folder) == "Question: what is it Answer:"
    (folder / "prompts.json").unlink()
    with pytest.raises(ModelError, match=r"brings a chat template.*prompts\.json"):
        asked(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [("is <image> it", "<image> stands for a picture"), ("a \ud800 b", "half a char")],
)
def test_a_question_that_cannot_be_asked_is_refused_by_its_sample(
    text: str, said: str, folder: Path
) -> None:
    with pytest.raises(DataError, match=rf"sample q7 .*{said}"):
        asked(folder, text=text)


def test_a_kind_of_prompt_that_is_not_known_is_told_with_those_that_are(
    folder: Path,
) -> None:
    with pytest.raises(ModelError, match="no prompt 'ocr'; it has caption, gqa"):
        asked(folder, "ocr")
