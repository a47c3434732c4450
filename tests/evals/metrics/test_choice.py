from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.core.errors import DataError
from allocator.core.ports import Sample
from evals.metrics._words import comparable
from evals.metrics.choice import PLUGIN, named

ANIMALS = ("a cat", "a dog", "a bird", "a fish")
ROMAN = ("I", "II", "III", "IV")


def letters(reply: str, choices: tuple[str, ...] = ANIMALS) -> str:
    return "".join(sorted(named(reply, choices)))


@pytest.mark.parametrize(
    "reply",
    [
        *("B", "b", "B.", "(B)", "(b)", "[B]", "B)", " B\n", "**B**", "<B>", "B:"),
        *("B. a dog", "(B) a dog", "B: a dog", "B) dog", "B - a dog", "B\nIt barks"),
        *(
            "Answer: B",
            "Answer:B",
            "answer: b",
            "The answer is B.",
            "The answer is (B)",
        ),
        *("The answer is B because it barks", "The correct option is B", "I'd pick B"),
        *(
            "The answer is (B)",
            "The answer is: **B**",
            "Answer\nB",
            "I choose B, not A",
            "\\boxed{B}",
        ),
        *("I think it is B", "It must be B.", "B, since it barks", "B is correct"),
        *("a dog", "A dog.", "A dog is there", "The dog", "dog", "It is a dog."),
        *("The answer is a dog", "It is not A but B", "A dog, not one of the others"),
        *("The answer is A. Wait, the answer is B.", "Is it A? The answer is B."),
        *("\uff22", "\uff08B\uff09", "\u200fB\u200f", "B\u200b."),
        *("\u7b54\u6848\u662fB", "\u9009B\u3002", "\u9009\u9879 B"),
        *("B)dog", "B.\u56e0\u4e3a", "B...", "B\uff0e\u72d7"),
        "\u6b63\u786e\u7b54\u6848\u662fB\u56e0\u4e3a",
    ],
)
def test_one_choice_is_named(reply: str) -> None:
    assert letters(reply) == "B"


@pytest.mark.parametrize(
    "reply",
    [
        *("", " ", "...", "?!", "I do not know", "nothing of the sort"),
        # no such letter, letters inside of words, units and names
        *("Z", "Answer: Z", "Dad", "ABC", "BABA", "30\u00b0C", "C++", "D.C.", "A+"),
        *("e.g. this", "dogs", "catfish", "d'accord", "B2B"),
        # the article, and what is denied
        *("A man walks by", "A big house", "It is not B.", "The answer is not B"),
    ],
)
def test_no_choice_is_named(reply: str) -> None:
    assert letters(reply) == ""


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("A", "A"),
        ("a", "A"),
        ("A.", "A"),
        ("It must be A", "A"),
        ("A because it purrs", "A"),
        ("The answer is A", "A"),
        ("The answer is A\n\nThe picture shows one.", "A"),
        ("A\nThe picture shows one.", "A"),
        ("It is A\nThe picture shows one.", "A"),
        ("A or B", "AB"),
        ("A, B", "AB"),
        ("A B", "AB"),
        ("(A) and (C)", "AC"),
        ("(A), (C)", "AC"),
        ("(a) or (c)", "AC"),
        ("A/C", "AC"),
        ("The answer is A or B", "AB"),
        ("Answer: A, B and C", "ABC"),
        ("A dog and a cat", "AB"),
        ("A. a cat\nB. a dog\nC. a bird\nD. a fish", "ABCD"),
    ],
)
def test_several_are_named_where_several_stand(reply: str, expected: str) -> None:
    assert letters(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("I", "A"),
        ("II", "B"),
        ("III.", "C"),
        ("The answer is IV", "D"),
        ("II and III", "BC"),
        # letters of choices are letters, also where they are numerals
        ("C", "C"),
        ("D", "D"),
        ("I think it is II", "B"),
        ("It is I", "A"),
    ],
)
def test_roman_numerals_are_texts(reply: str, expected: str) -> None:
    assert letters(reply, ROMAN) == expected


@pytest.mark.parametrize(
    ("reply", "choices", "expected"),
    [
        ("dark red", ("red", "dark red"), "B"),
        ("It is dark red.", ("red", "dark red"), "B"),
        ("red", ("red", "dark red"), "A"),
        ("red or dark red", ("red", "dark red"), "AB"),
        ("3.5", ("35", "3.5", "3", "5"), "B"),
        ("It is 3.5 kg", ("35", "3.5", "3", "5"), "B"),
        ("It shows vitamin C", ("vitamin C", "vitamin A", "iron"), "A"),
        ("C", ("vitamin C", "vitamin A", "iron"), "C"),
        ("Both A and B", ("one", "two", "three", "Both A and B"), "D"),
        ("The answer is both A and B", ("one", "two", "three", "Both A and B"), "D"),
        ("No, there is none.", ("yes", "no"), "B"),
        # a letter is a letter first, even where it is also a text
        ("A", ("B", "A"), "A"),
        ("I", tuple("123456789"), "I"),
        ("\u662f\u72d7\u3002", ("\u732b", "\u72d7"), "B"),
        ("café", ("bar", "cafe\u0301"), "B"),
        ("the same", ("The same", "the same."), "AB"),
    ],
)
def test_texts_are_found_word_by_word_and_the_longest_first(
    reply: str, choices: tuple[str, ...], expected: str
) -> None:
    assert letters(reply, choices) == expected


def score(reply: str, answers: tuple[str, ...]) -> float:
    sample = Sample("7", Path("7.png"), "plain", "?", answers, choices=ANIMALS)
    return PLUGIN.score([reply], [sample]).mean


@pytest.mark.parametrize(
    ("reply", "answers", "expected"),
    [
        ("B", ("B",), 100),
        ("A dog.", ("B",), 100),
        ("A", ("B",), 0),
        ("A or B", ("B",), 0),
        # several answers: any of them, or all, but no other beside
        ("A", ("A", "C"), 100),
        ("A and C", ("A", "C"), 100),
        ("A and B", ("A", "C"), 0),
        ("A, B, C, D", ("A", "C"), 0),
        ("", ("A", "B", "C", "D"), 0),
        ("b", (" b ",), 100),
    ],
)
def test_all_that_is_named_has_to_be_right(
    reply: str, answers: tuple[str, ...], expected: float
) -> None:
    assert score(reply, answers) == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.text("aAbBI .,()'\n:1", max_size=9),
    st.lists(st.text("xyz 1.I", min_size=2, max_size=5), min_size=2, max_size=26),
)
def test_whatever_is_named_is_there(reply: str, choices: list[str]) -> None:
    known = set(ascii_uppercase[: len(choices)])
    assert named(reply, choices) <= known
    for letter, text in zip(ascii_uppercase, choices, strict=False):
        assert named(letter, choices) == named(f"({letter})", choices) == {letter}
        # a single letter is one, whatever stands around it
        if sum(map(str.isalpha, text)) != 1 and comparable(text):
            assert letter in named(text, choices)


@pytest.mark.parametrize("answer", ["E", "a dog", "", "AB", "1"])
def test_an_answer_that_is_no_letter_of_a_choice_is_refused(answer: str) -> None:
    with pytest.raises(DataError, match=r"sample 7 .* no letter of its 4 choices"):
        score("B", (answer,))


@pytest.mark.parametrize(
    "reply",
    [
        f"x{chr(10) * 20_000}y",
        f"answer{' ' * 20_000}B?",
        "the answer is " * 2000,
        "(A" * 10_000,
        "answer A, " * 2000,
        "answer A" + ", A" * 7000 + "x",
        "A " * 10_000,
        "a cat " * 4000,
        "- " * 10_000,
    ],
    ids=range(9),
)
def test_a_reply_that_never_ends_takes_no_longer_than_it_is_long(reply: str) -> None:
    # whose time grew with the square of the length would not come back for minutes
    assert letters(reply) in {"", "A", "B"}
