"""Which replies count as the same, and how many do."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocator.core.errors import DataError, ReplyError
from allocator.core.ports import Sample
from evals.metrics.agreement import PLUGIN, agreeing


def to(reply: str) -> Sample:
    return Sample("one", Path("none"), "vqa", "?", (reply,))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("yes", "Yes"),
        ("yes", " yes.\n"),
        ("two  dogs", "two\u00a0dogs"),
        ("café", "cafe\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("yes .", "yes"),
        ("5.", "5"),
        ("", "  "),
        ("...", "..."),
        (".", "."),
    ],
)
def test_replies_that_say_the_same_agree(one: str, other: str) -> None:
    assert agreeing([one, other], [other, one]) == (100.0, 100.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5", "15"),
        ("1,000", "1.000"),
        ("1 000", "1000"),
        ("-5", "5"),
        (".5", "5"),
        ("10\u00b2", "102"),
        ("5", "\u2464"),
        ("\u00bd", "1/2"),
        ("3%", "3"),
        ("a dog", "dog"),
        ("yes", "no"),
        ("yes", ""),
        ("...", "."),
        (".", ""),
        ("well...", "well.."),
    ],
)
def test_replies_that_say_something_else_do_not(one: str, other: str) -> None:
    assert agreeing([one, other], [other, one]) == (0.0, 0.0)


def test_the_score_is_the_share_that_agrees_with_the_reference() -> None:
    samples = [to("red"), to("two dogs"), to(""), to("5")]
    score = PLUGIN.score(["Red.", "two cats", "", "5.0"], samples)
    # the second and the last differ
    assert (score.mean, score.values) == (50.0, (100.0, 0.0, 100.0, 0.0))


def test_a_sample_that_nobody_has_replied_to_is_refused_by_name() -> None:
    asked = Sample("row 3", Path("none"), "vqa", "?", ())
    with pytest.raises(DataError, match="sample row 3 has no reply of full precision"):
        PLUGIN.score(["red"], [asked])
    with pytest.raises(ReplyError):
        PLUGIN.score([], [to("red")])
