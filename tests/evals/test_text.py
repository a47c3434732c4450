from __future__ import annotations

import doctest
import gzip
import json
from pathlib import Path

import pytest

import evals.text
from evals.text import (
    normalize_answer,
    normalize_read_answer,
    normalize_words,
    remove_punctuation,
)

PAIRS = Path(__file__).parents[3] / "shared/data/vqa/normalize_pairs.jsonl.gz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Yes.", "yes"),
        ("a", ""),  # an article alone leaves nothing
        ("The Two cats", "2 cats"),
        ("none", "0"),
        ("dont", "don't"),
        ("somebody'd", "somebodyd"),  # a slip of the published table
        ("Im", "im"),  # "Im" is in the table, but words are lower-cased before
        ("black-white", "black white"),  # no space beside the mark: it becomes one
        ("black- white", "black white"),
        ("a-b- c", "ab c"),  # a space beside one hyphen: all hyphens vanish
        ("1,000", "1000"),
        ("1,000 left/right", "1000 leftright"),  # a digit comma digit: all marks vanish
        ("10:30", "10:30"),  # the colon is no mark
        ("5.2 a.m.", "5.2 am"),
        (".5", ".5"),
        ("5.", "5"),
        ("new\tcar\nred ", "new car red"),
    ],
)
def test_a_predicted_answer_takes_its_published_form(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # as lmms-eval's copy of MMF's EvalAIAnswerProcessor gives them
        ("The O'Reilly's, 1,000 pages?", "o'reilly 's 1000 pages"),
        ("it's 5 p.m.", "it 's 5 pm"),
        ("yes, no", "yes no"),
        ("Coca-Cola", "coca cola"),
        ("$5.00", "$5.00"),
    ],
)
def test_an_answer_of_textvqa_takes_its_published_form(
    text: str, expected: str
) -> None:
    assert normalize_read_answer(text) == expected


def test_only_the_first_32_periods_are_dropped() -> None:
    assert remove_punctuation("." * 40) == "." * 8


def test_punctuation_alone_leaves_case_numbers_and_articles() -> None:
    assert remove_punctuation("The Two, please") == "The Two please"


def test_words_alone_leave_punctuation() -> None:
    assert normalize_words("An apple, ONE") == "apple, 1"


def test_normalizing_is_the_same_as_published_on_all_recorded_answers() -> None:
    if not PAIRS.exists():
        pytest.skip(f"{PAIRS} is not there")
    with gzip.open(PAIRS, "rt", encoding="utf-8") as rows:
        pairs = [json.loads(row) for row in rows]
    assert len(pairs) == 5725
    assert [normalize_answer(text) for text, _ in pairs] == [good for _, good in pairs]


def test_the_examples_in_the_documentation_hold() -> None:
    outcome = doctest.testmod(evals.text)
    assert outcome.attempted > 0
    assert outcome.failed == 0
