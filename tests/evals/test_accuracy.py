from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from allocator.core.errors import DataError
from evals.accuracy import exact_match, read_answer_accuracy, vqa_accuracy

CASES = Path(__file__).parents[3] / "shared/data/vqa/accuracy_cases.jsonl.gz"


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        (0, 0.0),
        # one match: leaving it out leaves 0, the nine other ways leave 1/3 each
        (1, 30.0),
        # two: 2 ways leave 1/3, 8 ways 2/3, 6 in all
        (2, 60.0),
        # three: 3 ways leave 2/3, 7 ways 1, 9 in all
        (3, 90.0),
        # four: every way leaves at least three
        (4, 100.0),
        (10, 100.0),
    ],
)
def test_accuracy_is_the_mean_over_leaving_one_answer_out(
    matches: int, expected: float
) -> None:
    answers = ["red"] * matches + ["blue"] * (10 - matches)
    assert vqa_accuracy("red", answers) == expected


@pytest.mark.parametrize(
    ("predicted", "answers", "expected"),
    [
        # the reply is normalized
        ("The RED.", ["red"] * 10, 100.0),
        # human answers keep their case: "Red" is not met by "red"
        ("Red", ["Red"] * 5 + ["blue"] * 5, 0.0),
        # they lose punctuation if they differ: "red." counts as "red", 5 matches
        ("red", ["red."] * 2 + ["red"] * 3 + ["blue"] * 5, 100.0),
        # if all ten are equal they stay as they are
        ("red.", ["red."] * 10, 0.0),
        # number words of people stay, that of the reply becomes a digit
        ("two", ["two"] * 5 + ["2"] * 2 + ["3"] * 3, 60.0),
        # a mark alone becomes a space, which is not the empty reply
        ("?", ["?"] * 3 + ["red"] * 7, 0.0),
    ],
)
def test_only_the_reply_is_fully_normalized(
    predicted: str, answers: list[str], expected: float
) -> None:
    assert vqa_accuracy(predicted, answers) == expected


def test_the_order_of_the_answers_does_not_matter() -> None:
    answers = ["red", "blue", "red", "blue", "blue", *["green"] * 5]
    assert vqa_accuracy("red", answers) == vqa_accuracy("red", answers[::-1]) == 60.0


def test_a_question_without_answers_is_refused() -> None:
    with pytest.raises(DataError, match="without human answers"):
        vqa_accuracy("red", [])


def test_accuracy_is_the_same_as_published_on_all_recorded_cases() -> None:
    if not CASES.exists():
        pytest.skip(f"{CASES} is not there")
    with gzip.open(CASES, "rt", encoding="utf-8") as rows:
        cases = [json.loads(row) for row in rows]
    assert len(cases) == 1500
    scores = [vqa_accuracy(predicted, answers) for predicted, answers, _ in cases]
    assert scores == [expected for *_, expected in cases]


@pytest.mark.parametrize(
    ("predicted", "answers", "expected"),
    [
        # EvalAIAnswerProcessor's results: people's answers are normalized, too
        ("north face", ["The North Face"] * 4 + ["nike"] * 6, 100.0),
        ("Coca Cola", ["coca-cola"] * 3 + ["pepsi"] * 7, 90.0),
        ("two", ["2"] * 2 + ["3"] * 8, 60.0),
        # all commas go, not only those within numbers
        ("yes no", ["yes, no", *["no"] * 9], 30.0),
        ("nothing", ["something"] * 10, 0.0),
    ],
)
def test_answers_of_textvqa_are_normalized_as_replies_are(
    predicted: str, answers: list[str], expected: float
) -> None:
    assert read_answer_accuracy(predicted, answers) == expected
    with pytest.raises(DataError, match="without human answers"):
        read_answer_accuracy(predicted, [])


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("traffic light", 100.0),
        # blanks, capitals and final periods are LLaVA's to remove
        ("\n Traffic Light. ", 100.0),
        ("traffic light...", 100.0),
        # anything else is part of the answer
        ("a traffic light", 0.0),
        ("traffic lights", 0.0),
        ("traffic  light", 0.0),
        ("traffic light .", 0.0),
        ("traffic-light", 0.0),
        ("light", 0.0),
        ("", 0.0),
    ],
)
def test_an_exact_match_is_the_cleaned_reply_or_nothing(
    predicted: str, expected: float
) -> None:
    assert exact_match(predicted, "traffic light") == expected


def test_the_right_answer_is_compared_as_it_is() -> None:
    assert exact_match("Dr. No.", "dr. no") == 100.0
    assert exact_match("yes", "Yes") == 0.0
