"""A checkpoint's own wording of questions: prompts.json, checked as it is read."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, UnknownNameError
from allocator.families._json import is_there, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROMPTS_FILE = "prompts.json"
FORM = '{"vqa": "Question: {} Answer:"}'
# either stands for the question; other braces are text
PLACES = ("{}", "{question}")
# braces are text, so those that others double would be shown around the question
DOUBLED = tuple(f"{{{place}}}" for place in PLACES)
# stands for the picture where a model is asked without a chat template
IMAGE = "<image>"
# stands for the picture elsewhere, and would be read as words here
IMAGES = re.compile(
    r"[<\[{]\W?(?:image|img)(?:[ _-]?(?:\d+|here|pad|token))?\W?[>\]}]", re.I
)


def read_prompts(folder: Path, published: Mapping[str, str]) -> dict[str, str]:
    """A folder's own prompts by kind; empty where it brings none.

    A model trained on other words brings `prompts.json`, {"vqa": "... {} ..."}; those
    for "vqa" serve for "gqa" too, unless it brings others. What the published prompt of
    a kind has, the question's place and the picture's, the own one has to have too.

    Raises:
        ModelError: the file is not JSON, or one of its prompts cannot be meant.
    """
    file = folder / PROMPTS_FILE
    if not is_there(file):
        _check_name(folder)
        return {}
    own = read_json(file, _once)
    if not isinstance(own, dict):
        raise ModelError(f"{file} is not of the form {FORM}")
    for kind, prompt in own.items():
        if kind not in published:
            unknown = UnknownNameError("kind of prompt", kind, published)
            raise ModelError(f"{file}: {unknown}")
        _check(f"{file}: {kind}", prompt, published[kind])
    if "vqa" in own:
        own = {"gqa": own["vqa"], **own}
    return own


def filled(prompt: str, question: str) -> str:
    """A prompt with a question in its place, at whose ends no space is added.

    >>> filled('{question} Reply as {"answer": ...}', " what is it ")
    'what is it  Reply as {"answer": ...}'
    """
    for place in PLACES:
        if place in prompt:
            question = question.lstrip() if prompt.startswith(place) else question
            question = question.rstrip() if prompt.endswith(place) else question
            return prompt.replace(place, question)
    return prompt


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object, each of which stands there once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return found


def _check_name(folder: Path) -> None:
    """Refuse prompts under a name that nobody reads."""
    names = os.listdir(folder) if folder.is_dir() else ()
    for name in names:
        if name.casefold() in (PROMPTS_FILE, "prompt.json"):
            raise ModelError(
                f"{folder} has a {name}, which is not read: name it {PROMPTS_FILE}, "
                "or take it away"
            )


def _check(name: str, prompt: object, published: str) -> None:
    """Refuse a prompt that cannot be meant."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise ModelError(f"{name} is no text; {PROMPTS_FILE} is of the form {FORM}")
    if not prompt.isascii() and _half(prompt):
        raise ModelError(f"{name} holds half a character (a lone surrogate)")
    places, wanted = _places(prompt), _places(published)
    if places > 1 or places < wanted:
        needs = "exactly one" if wanted else "at most one"
        raise ModelError(
            f"{name} has {places} places for the question, and it needs {needs} "
            f"{' or '.join(PLACES)}"
        )
    doubled = next((each for each in DOUBLED if each in prompt), None)
    if doubled:
        raise ModelError(
            f"{name} has {doubled}, which shows braces around the question: it takes "
            f"single ones, {doubled[1:-1]}"
        )
    others = [found for found in IMAGES.findall(prompt) if found != IMAGE]
    if others:
        raise ModelError(
            f"{name} has {others[0]}, which shows no picture"
            + (f": its place is {IMAGE}" if IMAGE in published else ": take it out")
        )
    shown = prompt.count(IMAGE)
    if shown != published.count(IMAGE):
        raise ModelError(
            f"{name} has {shown} places for the picture, and it needs "
            + (
                f"{IMAGE} exactly once"
                if IMAGE in published
                else f"none: it has a place of its own, take {IMAGE} out"
            )
        )


def _places(prompt: str) -> int:
    return sum(prompt.count(place) for place in PLACES)


def _half(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
