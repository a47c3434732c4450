"""A task in other words: its samples, its score, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import SpecError
from allocator.core.own import Summary, refers_to_itself
from allocator.core.plugins import available, load
from allocator.core.ports import Sample, Score, Selection
from evals.taskset import TaskSet, within
from evals.worded import Worded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Split, Task

TASKS = {name: load("evals.tasks", name) for name in ("vqav2", "gqa", "coco")}
HERE = Path("data")


@dataclass(frozen=True)
class Rows:
    """A task of a file whose first row alone asks something."""

    name: str = "rows"
    metric: str = "share"
    version: int = 7
    needs: str = "reply"
    max_new_tokens: int = 4
    subsets: tuple[str, ...] = ()
    examples: tuple[Sample, ...] = ()
    own_references: bool = True

    def samples(self, data: Path, split: Split, _: Selection) -> tuple[Sample, ...]:
        return (
            Sample(f"{split}-0", data / "0.png", "vqa", " what {} is it ", ("a",)),
            Sample(f"{split}-1", data / "1.png", "caption", "", ("a cat",)),
        )

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        values = tuple(
            float(reply == each.references[0])
            for reply, each in zip(predictions, samples, strict=True)
        )
        return Score(sum(values) / len(values), values)


@pytest.mark.parametrize("name", ["vqav2", "gqa"])
def test_a_question_is_asked_in_the_words_that_are_given(name: str) -> None:
    task = TASKS[name]
    for place in ("{}", "{question}"):
        worded = Worded(task, f"Q: {place} Short.")
        for before, after in zip(task.examples, worded.examples, strict=True):
            assert (after.prompt, after.text) == ("plain", f"Q: {before.text} Short.")
            assert after.references == before.references
    assert (worded.version, worded.metric) == (task.version, task.metric)
    assert worded.score(["a"], task.examples[:1]) == task.score(
        ["a"], task.examples[:1]
    )


def test_a_caption_stays_a_caption_in_the_words_that_are_given() -> None:
    found = {(x.prompt, x.text) for x in Worded(TASKS["coco"], "a photo of").examples}
    assert found == {("caption", "a photo of")}


def test_what_is_not_given_is_the_tasks_own() -> None:
    for task in TASKS.values():
        longer = Worded(task, longest=99)
        assert longer.examples == task.examples
        assert longer.max_new_tokens == 99
    assert Worded(TASKS["coco"], "a photo of").max_new_tokens == 30


@pytest.mark.parametrize(
    ("name", "prompt", "said"),
    [
        ("vqav2", "what", "no place for the question .*, and vqav2 asks one$"),
        ("coco", "Q: {}", "a place for the question .*, and coco asks none$"),
        ("vqav2", "{} {}", "2 places"),
        ("coco", "<image>", "a place of its own"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_before_a_file_is_read(
    name: str, prompt: str, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        Worded(TASKS[name], prompt)


def test_what_asks_nothing_takes_no_words() -> None:
    for name in available("evals.tasks"):
        task = load("evals.tasks", name)
        if task.needs == "ranking":
            with pytest.raises(SpecError, match=f"{name} asks nothing"):
                Worded(task, "a photo of")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Q: {}", "asks none of sample search-1"),
        ("what", "asks one of sample search-0"),
    ],
)
def test_a_sample_that_a_prompt_does_not_fit_is_named(prompt: str, said: str) -> None:
    worded = Worded(Rows(), prompt)
    with pytest.raises(SpecError, match=said):
        worded.samples(HERE, "search", Selection())


def test_braces_of_a_question_are_text() -> None:
    class Asking(Rows):
        def samples(self, data: Path, split: Split, _: Selection) -> tuple[Sample, ...]:
            return super().samples(data, split, _)[:1]

    (asked,) = Worded(Asking(), "Q: {}").samples(HERE, "search", Selection())
    assert asked.text == "Q:  what {} is it"


def test_what_a_file_says_of_itself_counts_the_length_that_is_given() -> None:
    told = Summary("rows.csv", {}, {}, "exact", "its answers", None, None, longest=4)
    rows = Rows()
    object.__setattr__(rows, "summary", told)
    assert Worded(rows, longest=9).summary == replace(told, longest=9)
    assert Worded(rows, longest=None).summary == told
    assert "replies end after 9 tokens" in replace(told, longest=9).sentences[-1]
    assert Worded(TASKS["vqav2"], longest=9).summary is None


def test_a_file_that_refers_to_itself_still_does() -> None:
    assert refers_to_itself(Worded(Rows(), longest=3))
    assert not refers_to_itself(Worded(TASKS["vqav2"], longest=3))


def test_captions_weigh_words_by_all_that_are_scored_together() -> None:
    task, worded = TASKS["coco"], Worded(TASKS["coco"], "a photo of")
    replies = [each.references[0] for each in task.examples]
    own: Task = within(worded, worded.examples)
    assert own.score(replies[:1], worded.examples[:1]) == within(
        task, task.examples
    ).score(replies[:1], task.examples[:1])
    assert own.score(replies[:1], worded.examples[:1]) != task.score(
        replies[:1], task.examples[:1]
    )


def test_each_of_several_tasks_has_its_own_length_or_the_one_that_is_given() -> None:
    several = TaskSet((TASKS["vqav2"], TASKS["coco"]))
    assert [each.max_new_tokens for each in several.tasks] == [10, 30]
    given = TaskSet(tuple(Worded(each, longest=12) for each in several.tasks))
    assert [each.max_new_tokens for each in given.tasks] == [12, 12]
