"""Answer normalization of the VQA evaluation, as published.

The rules and their slips are those of vqaEval.py in
https://github.com/GT-Vision-Lab/VQA: a score is only comparable with published ones
if it repeats them. The word lists are in `data/vqa_tables.json`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from evals.ptb import tokenize_caption as tokenize_caption

if TYPE_CHECKING:
    from collections.abc import Mapping

DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
# The published pattern also looks for "no digit before", misspelt so that it always
# holds: ".5" keeps its period, "5." loses it.
PERIOD = re.compile(r"\.(?!\d)")
# The published call passes a flag, re.UNICODE, where the count belongs.
MOST_PERIODS = int(re.UNICODE)


@dataclass(frozen=True)
class Tables:
    """Word lists: every mapping is from a word as it is found to its replacement."""

    punctuation: tuple[str, ...]
    articles: frozenset[str]
    numbers: Mapping[str, str]
    contractions: Mapping[str, str]


@cache
def tables() -> Tables:
    """Read the published word lists."""
    source = files("evals").joinpath("data", "vqa_tables.json")
    content = json.loads(source.read_text(encoding="utf-8"))
    return Tables(
        punctuation=tuple(content["punctuation"]),
        articles=frozenset(content["articles"]),
        numbers=content["numbers"],
        contractions=content["contractions"],
    )


def remove_punctuation(text: str) -> str:
    """Drop or blank punctuation: the one step that human answers go through, too.

    A mark becomes nothing if it stands beside a space somewhere in the text, or if the
    text has a comma between two digits; otherwise it becomes a space. The first 32
    periods not followed by a digit are dropped.

    >>> remove_punctuation("black-white")
    'black white'
    >>> remove_punctuation("black - white, 1.5 p.m.")
    'black  white 1.5 pm'
    """
    has_number = DIGIT_COMMA_DIGIT.search(text) is not None
    cleaned = text
    for mark in tables().punctuation:
        if mark in text:
            by_space = f"{mark} " in text or f" {mark}" in text
            cleaned = cleaned.replace(mark, "" if has_number or by_space else " ")
    return PERIOD.sub("", cleaned, count=MOST_PERIODS)


def normalize_words(text: str) -> str:
    """Lower-case, write numbers as digits, drop articles, restore apostrophes.

    >>> normalize_words("The two dogs  dont bark")
    "2 dogs don't bark"
    """
    known = tables()
    words = (known.numbers.get(word, word) for word in text.lower().split())
    kept = (word for word in words if word not in known.articles)
    return " ".join(known.contractions.get(word, word) for word in kept)


# the replies of a search are few words, many times over
@lru_cache(maxsize=1 << 15)
def normalize_answer(text: str) -> str:
    r"""Bring a predicted answer into the form in which it is compared.

    >>> normalize_answer("\tA black-and-white cat.\n")
    'black and white cat'
    """
    one_line = text.replace("\n", " ").replace("\t", " ").strip()
    return normalize_words(remove_punctuation(one_line))


def normalize_read_answer(text: str) -> str:
    """Bring an answer of TextVQA, of people too, into the form that is compared.

    EvalAIAnswerProcessor of MMF (mmf/utils/m4c_evaluators.py and
    mmf/datasets/processors/processors.py), as LLaVA's m4c_evaluator.py repeats it: all
    commas go, and what ends in 's is cut into two words.

    >>> normalize_read_answer("The O'Reilly's, 1,000 pages?")
    "o'reilly 's 1000 pages"
    """
    lower = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalize_answer(lower)
