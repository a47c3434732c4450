"""What full precision must look like before anything is compared with it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from allocator.bench.sense import Said, constant_scores, judge
from allocator.core.plugins import load
from allocator.core.ports import Sample
from evals.taskset import TaskSet

VQAV2 = load("evals.tasks", "vqav2")
GQA = load("evals.tasks", "gqa")
FINE = Said(100, 0, 3, 10, "red", "blue")
ALL_CUT = Said(100, 0, 100, 10, "the colour of the", "red")
ALL_EMPTY = Said(100, 100, 0, 10, "", "red")


@pytest.mark.parametrize(
    ("score", "said", "words"),
    [
        (0.0, FINE, "scores 0 on vqav2 at full precision (100 samples, such as 'red'"),
        (math.nan, FINE, "scores nan on vqav2"),
        (math.inf, FINE, "scores inf on vqav2"),
        # answers that nobody gave can match nothing
        (3.0, ALL_EMPTY, "all replies are empty"),
        (0.0, ALL_CUT, "all replies are cut off at 10 tokens, such as 'the colour of"),
        # always replying "yes" scores 40
        (19.9, ALL_CUT, "all replies are cut off"),
        (0.0, Said(7), "scores 0 on vqav2 at full precision (7 samples)"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_seen(
    score: float, said: Said, words: str
) -> None:
    found = judge("m", {"vqav2": (score, said)}, {"vqav2": ("yes", 40.0)})
    assert found.refused is not None
    assert words in found.refused
    assert "likely causes: prompts or a chat template" in found.refused


@pytest.mark.parametrize(
    ("score", "said", "words"),
    [
        # a task that asks for one token cuts every reply, and they are right
        (90.0, ALL_CUT, "all replies are cut off at 10 tokens"),
        (90.0, Said(100, 0, 11, 10, "red", "red"), "11 of 100 replies are cut off"),
        (19.9, FINE, "less than half of the 40 that always replying 'yes' would"),
    ],
)
def test_what_is_odd_is_said_and_not_refused(
    score: float, said: Said, words: str
) -> None:
    found = judge("m", {"vqav2": (score, said)}, {"vqav2": ("yes", 40.0)})
    assert found.refused is None
    (line,) = found.warnings
    assert words in line


@pytest.mark.parametrize("score", [20.0, 98.0, -3.0])
def test_what_is_sound_is_passed_in_silence(score: float) -> None:
    constant = {"vqav2": ("yes", 40.0)} if score > 0 else {}
    found = judge("m", {"vqav2": (score, FINE)}, constant)
    assert (found.refused, found.warnings) == (None, ())


def test_a_model_that_thinks_for_too_long_is_told_what_would_help() -> None:
    thinking = Said(100, 100, 100, 10, "", "red")
    found = judge("m", {"vqav2": (0.0, thinking)}, {})
    assert found.refused is not None
    assert "all replies are empty, cut off at 10 tokens before they" in found.refused
    assert found.refused.endswith("thoughts or answers that need more --max-new-tokens")
    some = judge("m", {"vqav2": (50.0, Said(100, 30, 30, 10, "red", "red"))}, {})
    (line,) = some.warnings
    assert "30 of 100 replies are cut off at 10 tokens and 30 are empty" in line
    assert "--max-new-tokens" in line
    # others are not sent there
    empty = judge("m", {"vqav2": (0.0, ALL_EMPTY)}, {})
    assert "--max-new-tokens" not in str(empty.refused)


def test_one_task_of_several_is_enough_to_refuse() -> None:
    found = judge("m", {"vqav2": (90.0, FINE), "gqa": (0.0, FINE)}, {})
    assert found.refused is not None
    assert "scores 0 on gqa" in found.refused


def asked(number: int, *answers: str) -> Sample:
    return Sample(str(number), Path("none"), "vqa", "", answers)


def test_the_most_frequent_answer_is_scored_as_the_task_scores() -> None:
    calibration = [asked(1, *["no"] * 10), asked(2, *["no"] * 10), asked(3, "a", "b")]
    right, wrong = asked(4, *["no"] * 10), asked(5, *["red"] * 10)
    found = constant_scores(VQAV2, calibration, [right, wrong, wrong, wrong])
    assert found == {"vqav2": ("no", 25.0)}
    assert constant_scores(VQAV2, [asked(1)], [right]) == {}


def test_each_task_of_several_has_a_most_frequent_answer_of_its_own() -> None:
    def of(task: str, number: int, answer: str, count: int) -> Sample:
        return Sample(f"{task}:{number}", Path("none"), "vqa", "", (answer,) * count)

    calibration = [of("vqav2", 1, "no", 10), of("gqa", 1, "left", 1)]
    samples = [of("vqav2", 2, "no", 10), of("gqa", 2, "right", 1)]
    found = constant_scores(TaskSet((VQAV2, GQA)), calibration, samples)
    assert found == {"vqav2": ("no", 100.0), "gqa": ("left", 0.0)}


def test_rankings_are_only_counted() -> None:
    rows = [[0.5, 0.25], [0.5, 0.75]]
    assert Said.of(rows, [asked(1), asked(2)], 1, 0) == Said(2)


def test_empty_replies_are_counted_and_an_example_is_kept() -> None:
    samples = [asked(1, "red"), asked(2, "blue"), asked(3)]
    found = Said.of(["a reply", "", "b"], samples, 10, 2)
    assert found == Said(3, 1, 2, 10, "a reply", "red")
