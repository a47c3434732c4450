"""Replies that name a choice to say that it is not the one."""

from __future__ import annotations

import pytest

from evals.metrics.choice import named

ANIMALS = ("a cat", "a dog", "a bird")


@pytest.mark.parametrize(
    ("reply", "letters"),
    [
        ("I think it's (B), not (A)", "B"),
        ("(A) is wrong. (B) is right.", "B"),
        ("A is not correct; B is.", "B"),
        ("B is incorrect, so A", "A"),
        ("The answer is B not C", "B"),
        ("It can't be A or B, so C", "C"),
        ("Neither A nor B", ""),
        ("The answer isn't B", ""),
        ("The answer cannot be A", ""),
        ("Not (A)", ""),
        ("A is wrong", ""),
        # whom nobody denies
        ("I am not sure, B", "B"),
        ("Not only A", "A"),
        ("It is not clear. A", "A"),
        ("Either A or B", "AB"),
    ],
)
def test_a_letter_that_is_denied_is_not_named(reply: str, letters: str) -> None:
    assert named(reply, ANIMALS) == set(letters)


@pytest.mark.parametrize(
    ("reply", "choices", "letters"),
    [
        ("It isn't a cat", ANIMALS, ""),
        ("Not a cat, a dog", ANIMALS, "B"),
        ("It is not red, it is green.", ("red", "green"), "B"),
        ("I do not see a dog", ANIMALS, "B"),
        ("It is not visible", ("visible", "not visible"), "B"),
        ("Neither A nor B", ("red", "green", "neither A nor B"), "C"),
    ],
)
def test_a_text_that_is_denied_is_not_named(
    reply: str, choices: tuple[str, ...], letters: str
) -> None:
    assert named(reply, choices) == set(letters)
