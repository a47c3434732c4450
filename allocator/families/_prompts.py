"""A checkpoint's own wording of questions: prompts.json, checked as it is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, UnknownNameError
from allocator.core.prompts import IMAGES, PLACES, fault, places
from allocator.families._json import is_there, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROMPTS_FILE = "prompts.json"
FORM = '{"vqa": "Question: {} Answer:"}'
# stands for the picture where a model is asked without a chat template
IMAGE = "<image>"


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
    if wrong := fault(prompt):
        raise ModelError(f"{name} {wrong}")
    found, wanted = places(prompt), places(published)
    if found > 1 or found < wanted:
        needs = "exactly one" if wanted else "at most one"
        raise ModelError(
            f"{name} has {found} places for the question, and it needs {needs} "
            f"{' or '.join(PLACES)}"
        )
    others = [each for each in IMAGES.findall(prompt) if each != IMAGE]
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
