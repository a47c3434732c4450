"""Prompts as people write them: where the question goes, and what cannot be meant."""

from __future__ import annotations

import re

from allocator.core.errors import LONGEST_REASON, SpecError

# either stands for the question; other braces are text
PLACES = ("{}", "{question}")
# braces are text, so those that others double would be shown around the question
DOUBLED = tuple(f"{{{place}}}" for place in PLACES)
# stands for the picture elsewhere, and would be read as words here
IMAGES = re.compile(
    r"[<\[{]\W?(?:(?:start|begin|end)_of_)?(?:image|img)"
    r"(?:[ _-]?(?:\d+|here|pad|context|(?:soft_)?token))?\W?[>\]}]",
    re.I,
)
# a line break as it is written in code; LaTeX has names that begin so, such as \neq
ESCAPED = re.compile(r"\\n(?![a-z])")


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


def places(prompt: str) -> int:
    """How many places for a question a prompt has.

    >>> places("Question: {} Answer:"), places("a photo of")
    (1, 0)
    """
    return sum(prompt.count(place) for place in PLACES)


def fault(prompt: str) -> str | None:
    """What of a prompt cannot be meant, whoever asks; None if nothing is wrong."""
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        return "holds half a character (a lone surrogate)"
    doubled = next((each for each in DOUBLED if each in prompt), None)
    if doubled:
        return (
            f"has {doubled}, which shows braces around the question: it takes single "
            f"ones, {doubled[1:-1]}"
        )
    return None


def check_prompt(prompt: str) -> None:
    """Refuse what nobody can mean to be asked in place of a task's own words.

    Raises:
        SpecError: it is blank, holds half a character, marks a picture, has several
            places for the question, or a line break that is written out.
    """
    wrong = fault(prompt)
    if not prompt.strip():
        wrong = 'is blank: a prompt is a text such as "Question: {question} Answer:"'
    elif places(prompt) > 1:
        wrong = (
            f"has {places(prompt)} places for the question, and it needs at most one "
            f"{' or '.join(PLACES)}"
        )
    elif found := IMAGES.search(prompt):
        wrong = f"has {found[0]}, and the picture has a place of its own: take it out"
    elif ESCAPED.search(prompt):
        wrong = (
            r"has \n written out: give a line break itself ($'a\nb' in a shell, "
            r'"a\nb" in TOML)'
        )
    if wrong is not None:
        raise SpecError(f"the prompt {shown(prompt)} {wrong}")


def shown(prompt: str) -> str:
    """A prompt as it stands in a sentence."""
    cut = f"{prompt[:LONGEST_REASON]} ..."
    return repr(prompt if len(prompt) <= LONGEST_REASON else cut)
