"""How a checkpoint is asked: in published words, its own, or in its chat template."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import (
    AllocateError,
    DataError,
    ModelError,
    in_one_sentence,
)
from allocator.core.prompts import filled, shown
from allocator.families._json import is_there
from allocator.families._prompts import IMAGE, PROMPTS_FILE, read_prompts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.core.ports import Sample

# a template is tried with it: it has to come through once, letter by letter
PROBE = "Which Colour has item 7, left or right?"
# what a part of a message looks like where it is printed in Python or as JSON
PART = ("'type'", '"type"')
# what templates of models that can think or not ask for
SWITCH = "enable_thinking"
# before a template: a model that can answer at once does, and one that writes today's
# date must not change overnight. The date is that of Llama 3's templates where they are
# told none
BEFORE = (
    f"{{%- set {SWITCH} = false -%}}"
    "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
)
# where folders bring templates
TEMPLATES = (
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "tokenizer_config.json",
)


@dataclass(frozen=True)
class Wording:
    """How a checkpoint is asked each kind of question.

    `published` are the family's words and `own` those of prompts.json, which come
    first. If `chat`, they stand within the checkpoint's chat template. A model that is
    asked without one may bring one nevertheless: what is said in it is `within` (None:
    nobody knows), where prompts.json has nothing.
    """

    folder: Path
    published: Mapping[str, str]
    own: Mapping[str, str] = field(default_factory=dict)
    chat: bool = False
    within: Mapping[str, str] | None = None
    _tried: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def read(
        folder: Path,
        published: Mapping[str, str],
        *,
        chat: bool = False,
        within: Mapping[str, str] | None = None,
    ) -> Wording:
        """The wording of a folder.

        Raises:
            ModelError: its prompts.json cannot be meant.
        """
        return Wording(folder, published, read_prompts(folder, published), chat, within)

    def worded(self, sample: Sample, processor: Any) -> str:
        """A sample's question in the words the model knows.

        Raises:
            ModelError: the model has no wording for it, or a template that loses the
                question or the picture.
            DataError: the question holds what stands for an image, or half a character.
        """
        image = str(getattr(processor, "image_token", IMAGE))
        check_text(sample, sample.text, image)
        # what a processor puts into the place of its own word for a picture
        laid = getattr(getattr(processor, "tokenizer", None), "image_token", None)
        check_text(sample, sample.text, str(laid or image))
        # words of one's own stand where the family's would
        kind = "plain" if sample.prompt == "caption" and sample.text else sample.prompt
        if kind not in self.published:
            raise ModelError(
                f"{self.folder} has no prompt {kind!r}; it has "
                f"{', '.join(sorted(self.published))}"
            )
        template = template_of(processor)
        if not self.chat and (kind in self.own or template is None):
            prompt = self.own.get(kind, self.published[kind])
            return filled(prompt.replace(IMAGE, image), sample.text)
        if template is None:
            raise ModelError(f"{self.folder} has no chat template for its prompts")
        words = {**self.published, **self.own} if self.chat else self.within
        if words is None:
            raise ModelError(
                f"{self.folder} brings a chat template, and models of its kind are "
                f"asked without one: write what it is asked into {PROMPTS_FILE}, or "
                "take the template away"
            )
        if kind not in self._tried:
            self._try(kind, words[kind], template, processor)
        text = filled(words[kind], sample.text)
        said = self._said(kind, text, template, processor)
        asked = sample.text.strip() if text != words[kind] else ""
        if asked not in said or said.count(image) != 1:
            raise ModelError(
                f"the chat template of {self.folder} changes the question of sample "
                f"{sample.id}, {asked!r}: it makes {shown(said)} of it"
            )
        return said

    def _try(self, kind: str, words: str, template: Any, processor: Any) -> None:
        """Find out how a template takes a picture and a question.

        In parts, as those for pictures do. One that knows texts alone gets the picture
        as text, where models of this kind are asked so without a template too.
        """
        image, found = str(processor.image_token), ""
        # a prompt without a place for the question is looked for itself
        text = filled(words, PROBE)
        asked = PROBE if PROBE in text else text
        ways = ("parts",) if self.chat else ("parts", "text")
        for way in ways:
            self._tried[kind] = way
            try:
                said = self._said(kind, text, template, processor)
            except AllocateError:
                self._tried.pop(kind)
                if way == ways[-1]:
                    raise
                continue
            once = said.count(asked) == said.count(image) == 1
            # one that knows texts alone may print the parts as they are
            printed = any(said.count(key) > text.count(key) for key in PART)
            if once and not printed:
                return
            found = found or said
        self._tried.pop(kind)
        raise ModelError(
            f"the chat template of {self.folder} does not show the picture ({image}) "
            f"and the question once each: of {asked!r} it makes {shown(found)}: mend "
            "it" + ("" if self.chat else f", or write the prompts into {PROMPTS_FILE}")
        )

    def _said(self, kind: str, text: str, template: Any, processor: Any) -> str:
        """What a template makes of a text."""
        content: Any = [{"type": "image"}, {"type": "text", "text": text}]
        if self._tried[kind] == "text":
            content = f"{processor.image_token}\n{text}"
        with in_one_sentence(f"the chat template of {self.folder} fails"):
            said: str = processor.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=BEFORE + template,
                add_generation_prompt=True,
            )
        return said


def template_of(processor: Any) -> str | None:
    """The chat template of a processor, or else its tokenizer's; None without one.

    Raises:
        ModelError: there are several, and none is the usual one.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    found = getattr(processor, "chat_template", None)
    if found is None:
        found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        if "default" not in found:
            raise ModelError(
                f"{getattr(tokenizer, 'name_or_path', 'the processor')} has chat "
                f"templates {', '.join(found)}, and none of them is named default"
            )
        found = found["default"]
    return found


def has_switch(folder: Path) -> bool:
    """Whether a chat template of a folder asks if its model is to think."""
    files = (folder / name for name in TEMPLATES)
    texts = (file.read_bytes() for file in files if is_there(file))
    return any(SWITCH.encode() in text for text in texts)


def check_text(sample: Sample, text: str, image: str | None = None) -> None:
    """Refuse a text that no tokenizer takes, or that would show a picture.

    Raises:
        DataError: names the sample.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"sample {sample.id} holds half a character (a lone surrogate): {text!r}"
        ) from None
    if image is not None and image in text:
        raise DataError(
            f"sample {sample.id} asks {text!r}, and {image} stands for a picture: "
            "take it out"
        )


def reply_to(sample: Sample) -> str:
    """The reference that most people gave."""
    return Counter(sample.references).most_common(1)[0][0]


def answer(text: str, reply: str) -> str:
    """A reply behind its prompt, as the model would give it.

    >>> answer("Short answer:", "yes")
    'Short answer: yes'

    Chat templates end in a line of its own for the reply.
    """
    return f"{text}{'' if text[-1:].isspace() else ' '}{reply}"
