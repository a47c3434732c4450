"""Metrics that compare a reply with answers, by hand."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from allocator.core.errors import DataError
from allocator.core.plugins import load
from allocator.core.ports import Sample
from evals.metrics._edits import edits
from evals.metrics._words import comparable, unified, words

LONG = 20_000


TEXTS = st.text(
    "aAn t1.,-%/'\n?*_(\u00e9\u0301\u200f\u732b\u0663\uff13\u00b2\0", max_size=9
)
EACH = pytest.mark.parametrize("metric", ["exact", "contains", "anls", "relaxed", "f1"])


def value(metric: str, reply: str, *answers: str) -> float:
    sample = Sample("7", Path("7.png"), "vqa", "What is it?", answers)
    return float(load("evals.metrics", metric).score([reply], [sample]).mean)


@pytest.mark.parametrize(
    ("reply", "answer", "same"),
    [
        ("Red", "red", True),
        (" dark\n red ", "Dark Red", True),
        ("red.", "red", True),
        ("5.", "5", True),
        ("U.S", "U.S.", True),
        ("stra\u00dfe", "STRASSE", True),
        ("cafe\u0301", "café", True),
        ("\uff13.\uff15\uff05", "3.5%", True),
        ("\u0663\u0664", "34", True),
        ("\u200f\u0642\u0637\u0629\u200f", "\u0642\u0637\u0629", True),
        ("\u22125", "-5", True),
        # what would make a wrong number
        ("3.5", "35", False),
        ("1/2", "12", False),
        ("-5", "5", False),
        ("<5", ">5", False),
        ("A+", "A", False),
        ("A+", "", False),
        ("10\u00b2", "102", False),
        ("1,5", "15", False),
        ("12%", "12", False),
        ("cafe", "café", False),
        ("...", "", False),
        # articles, other words and other spellings are not the answer
        ("a dog", "dog", False),
        ("dogs", "dog", False),
        ("two", "2", False),
        ("1,000", "1000", False),
        ("", "dog", False),
        ("?", "!", False),
    ],
)
def test_an_exact_match_keeps_the_meaning(reply: str, answer: str, same: bool) -> None:
    assert value("exact", reply, answer) == value("exact", answer, reply) == 100 * same


def test_an_exact_match_with_any_of_the_answers_will_do() -> None:
    assert value("exact", "B", "a", "b", "c") == 100


@pytest.mark.parametrize(
    ("reply", "answer", "contained"),
    [
        ("It says STOP, twice", "stop", True),
        ("stop", "stop", True),
        ("a black-and-white cat", "white", True),
        ("yes/no", "no", True),
        ("(B) Paris", "paris", True),
        ("**Paris**", "Paris", True),
        ("Paris,France", "france", True),
        ("\u201cMain Street\u201d it says", "main street", True),
        ("about 3.5 kg", "3.5", True),
        ("(-5)", "-5", True),
        ("in the U.S. today", "U.S.", True),
        ("it's red", "it's", True),
        ("\u7b54\u6848\u662f\u5317\u4eac\u3002", "\u5317\u4eac", True),
        ("Answer:5", "5", True),
        ("line one\nline two", "one line", True),
        # letters inside of a word, digits inside of a number
        ("category", "cat", False),
        ("13", "3", False),
        ("3.5", "3", False),
        ("3.5", "5", False),
        ("1,000", "000", False),
        ("-5", "5", False),
        (".5", "5", False),
        ("5%", "5", False),
        ("12:30", "30", False),
        ("1/2", "2", False),
        ("2010-2015", "2015", False),
        ("C++", "C", False),
        # words that stand apart, another order
        ("black or white", "black white", False),
        ("street main", "main street", False),
        ("", "stop", False),
        ("?", "!", False),
    ],
)
def test_what_is_contained_stands_there_word_by_word(
    reply: str, answer: str, contained: bool
) -> None:
    assert value("contains", reply, answer) == 100 * contained


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("105", "100", True),
        ("95", "100", True),
        ("94.9", "100", False),
        ("1.05", "1", True),
        ("1.051", "1", False),
        ("-105", "-100", True),
        ("105", "-100", False),
        ("12%", "0.12", True),
        ("12 %", "0.12", True),
        ("12", "12%", False),
        ("12%", "12.5%", True),
        ("1,000", "1000", True),
        ("1,234,567.8", "1234567.8", True),
        ("1,00", "100", False),
        ("12,34", "1234", False),
        ("0.0", "0", True),
        ("0%", "0", True),
        ("0.001", "0", False),
        ("-0", "0", True),
        ("1e3", "1000", True),
        (".5", "0.5", True),
        ("5.", "5", True),
        ("2010", "2015", True),
        ("\u0665", "5", True),
        # no numbers: compared as texts
        ("nan", "nan", True),
        ("inf", "1e999", False),
        ("1e999", "1e999", True),
        ("1_000", "1000", False),
        ("$5", "5", False),
        ("5 kg", "5", False),
        ("Yes", "yes", True),
        ("Yes.", "yes", True),
        ("yes", "no", False),
        ("", "0", False),
        ("%", "0", False),
    ],
)
def test_numbers_may_be_off_by_5_percent(reply: str, answer: str, right: bool) -> None:
    assert value("relaxed", reply, answer) == 100 * right


@pytest.mark.parametrize(
    ("reply", "answers", "expected"),
    [
        ("hello", ["hello"], 100),
        ("HELLO  there", ["hello there"], 100),
        # one edit in ten letters
        ("0123456789", ["012345678x"], 90),
        # one in two is 0.5, which counts; two in three do not
        ("ab", ["ax"], 50),
        ("abc", ["axx"], 0),
        ("abc", ["xyz", "abcd"], 75),
        ("", ["abc"], 0),
        ("a" * LONG, ["a"], 0),
        ("cafe\u0301", ["café"], 100),
    ],
)
def test_anls_forgives_a_few_letters(
    reply: str, answers: list[str], expected: float
) -> None:
    assert value("anls", reply, *answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reply", "answer", "expected"),
    [
        ("the red bus", "a red bus.", 100),
        # 1 of 2 and 1 of 1: 2 x 1 / 3
        ("red bus", "bus", 200 / 3),
        # a word counts as often as it stands in both
        ("bus bus bus", "bus", 50),
        ("3.5", "35", 0),
        ("-5", "5", 0),
        ("1/2", "12", 0),
        ("1,000", "1000", 100),
        ("$5", "5", 100),
        ("don't", "dont", 100),
        ("U.S.", "us", 100),
        ("", "bus", 0),
        # an answer that is an article is one
        ("A", "a", 100),
        ("", "a", 0),
        ("the", "a", 0),
    ],
)
def test_f1_is_the_share_of_words_in_common(
    reply: str, answer: str, expected: float
) -> None:
    assert value("f1", reply, answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reply", "answers", "expected"),
    [
        ("Red.", ["Red"] * 10, 100),
        ("red", ["Red"] * 3 + ["blue"] * 7, 90),
        ("two dogs", ["2 dogs"] * 4 + ["dog"] * 6, 100),
        # one left out of three leaves two matches of three
        ("red", ["red"] * 3, 66.67),
        ("red", ["red"] * 2, 33.33),
        # "A" is an answer, and silence is not it
        ("A", ["a"] * 10, 100),
        ("", ["a"] * 10, 0),
    ],
)
def test_vqa_accuracy_takes_answers_as_it_takes_replies(
    reply: str, answers: list[str], expected: float
) -> None:
    assert value("vqa", reply, *answers) == pytest.approx(expected, abs=0.01)


def test_vqa_accuracy_of_a_single_answer_is_refused() -> None:
    with pytest.raises(DataError, match="sample 7 has one answer"):
        value("vqa", "red", "red")


def test_captions_are_scored_as_those_of_coco() -> None:
    task = load("evals.tasks", "coco")
    replies = ["A dog sleeps.", "A car.", "A dog lies near a red bicycle."]
    metric = load("evals.metrics", "cider")
    expected = task.score(replies, task.examples)
    assert metric.score(replies, task.examples) == expected
    part = metric.within(task.examples).score(replies[:1], task.examples[:1])
    assert part.values == pytest.approx(expected.values[:1])


def test_edits_are_the_fewest_there_are() -> None:
    def slowly(one: str, other: str) -> int:
        row = list(range(len(other) + 1))
        for n, letter in enumerate(one, start=1):
            before, row = row, [n]
            for m, another in enumerate(other):
                changed = before[m] + (letter != another)
                row.append(min(changed, before[m + 1] + 1, row[m] + 1))
        return row[-1]

    rng = Random(1)
    for _ in range(3000):
        one, other = (
            "".join(rng.choices("ab\u00e9", k=rng.randint(0, 12))) for _ in range(2)
        )
        assert edits(one, other) == slowly(one, other)


def test_texts_are_unified_once_and_for_all() -> None:
    for text in ("\uff21\u0301 \u0663", "e\u0301\u200f", "\u2212\u2019", "\ud800", ""):
        assert unified(unified(text)) == unified(text)
        assert comparable(comparable(text)) == comparable(text)
        assert words(" ".join(words(text))) == words(text)


@pytest.mark.parametrize(
    "reply",
    [
        f"x{chr(10) * LONG}y",
        f"answer{' ' * LONG}B",
        "the answer is " * (LONG // 14),
        "(A" * (LONG // 2),
        "1," * (LONG // 2),
        "-" * LONG,
        "\u0301" * LONG,
        "\u0663" * LONG,
        "a cat " * (LONG // 6),
    ],
    ids=range(9),
)
@EACH
def test_a_reply_that_never_ends_takes_no_longer_than_it_is_long(
    metric: str, reply: str
) -> None:
    # whose time grew with the square of the length would not come back for minutes
    assert 0 <= value(metric, reply, "a cat", "3.5") <= 100


@EACH
@settings(max_examples=100, deadline=None, derandomize=True)
@given(TEXTS, TEXTS)
def test_an_answer_is_right_whatever_it_is_and_silence_is_not(
    metric: str, answer: str, reply: str
) -> None:
    assume(comparable(answer))
    assert value(metric, answer, answer) == 100
    assert value(metric, "", answer) == 0
    assert 0 <= value(metric, reply, answer) <= 100
    # what is the answer to the strictest is so to all
    if value("exact", reply, answer):
        assert value(metric, reply, answer) > 0
