"""What every task in evals/tasks must do, found without being listed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from allocator.core.errors import DataError, ReplyError
from allocator.core.own import FileTask
from allocator.core.plugins import available
from allocator.core.ports import SPLITS, Prediction, Ranked, Selection
from tests.contracts.tasks import of_file, plug_in, task_named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.ports import Sample, Split, Task

EACH = pytest.mark.parametrize("name", available("evals.tasks"))
NONSENSE = "nothing of the sort"


def first(samples: Sequence[Sample]) -> list[str]:
    return [sample.references[0] for sample in samples]


def predictions(
    task: Task, samples: Sequence[Sample], replies: Sequence[str]
) -> list[Any]:
    """What a model of the right kind predicts that would give these replies.

    One that ranks finds a sample's own texts and image alike, and nothing else, if the
    reply is one of its references; otherwise it tells nothing apart.
    """
    if task.needs == "reply":
        return list(replies)
    owners = [i for i, sample in enumerate(samples) for _ in sample.references]
    found = []
    for number, (sample, reply) in enumerate(zip(samples, replies, strict=True)):
        hit = 1.0 if reply in sample.references else 0.0
        texts = [hit * (owner == number) for owner in owners]
        row = [hit * (other == number) for other in range(len(samples))]
        found.append(Ranked(texts, [row] * len(sample.references)))
    return found


@EACH
def test_the_first_references_together_get_the_best_score(name: str) -> None:
    task = task_named(name)
    samples = task.examples
    replies = first(samples)
    best = task.score(predictions(task, samples, replies), samples).mean
    assert best > 0
    if "%" in task.metric:
        assert best == pytest.approx(100)
    for number, sample in enumerate(samples):
        for other in (*sample.references, NONSENSE, ""):
            changed = [*replies[:number], other, *replies[number + 1 :]]
            score = task.score(predictions(task, samples, changed), samples)
            assert score.mean <= best + 1e-9


@EACH
def test_nonsense_scores_nothing(name: str) -> None:
    task = task_named(name)
    told = predictions(task, task.examples, [NONSENSE] * len(task.examples))
    score = task.score(told, task.examples)
    assert score.mean == pytest.approx(0, abs=1e-6)
    assert len(score.values) == len(task.examples)


@EACH
def test_the_order_of_the_samples_does_not_matter(name: str) -> None:
    task = task_named(name)
    samples = [*task.examples, *renamed(task.examples)]
    replies = [NONSENSE, *first(samples)[1:]]
    forth = task.score(predictions(task, samples, replies), samples)
    samples, replies = samples[::-1], replies[::-1]
    back = task.score(predictions(task, samples, replies), samples)
    assert forth.mean == pytest.approx(back.mean)
    assert forth.values == pytest.approx(back.values[::-1])
    assert forth.details == pytest.approx(back.details)


def renamed(samples: Sequence[Sample]) -> list[Sample]:
    return [replace(sample, id=f"{sample.id}-other") for sample in samples]


@EACH
def test_the_mean_is_that_of_the_values(name: str) -> None:
    task = task_named(name)
    replies = [*first(task.examples)[:-1], NONSENSE]
    score = task.score(predictions(task, task.examples, replies), task.examples)
    assert score.mean == pytest.approx(sum(score.values) / len(score.values))


@EACH
@pytest.mark.parametrize("change", [-1, 1])
def test_another_number_of_predictions_than_samples_is_refused(
    name: str, change: int
) -> None:
    task = task_named(name)
    samples = [*task.examples, *renamed(task.examples)]
    told = predictions(task, samples, first(samples))
    told = told[:-1] if change < 0 else [*told, told[0]]
    for given, wanted in ((told, samples), ([], samples), ([], [])):
        with pytest.raises(ReplyError):
            task.score(given, wanted)


@EACH
def test_predictions_of_another_kind_are_refused(name: str) -> None:
    task = task_named(name)
    wrong = Ranked([1.0], [[1.0]]) if task.needs == "reply" else "a reply"
    with pytest.raises(ReplyError, match=task.examples[0].id):
        task.score([wrong] * len(task.examples), task.examples)


@EACH
def test_examples_are_different_samples(name: str) -> None:
    samples = task_named(name).examples
    assert len({sample.id for sample in samples}) == len(samples) >= 1
    assert len({sample.image for sample in samples}) == len(samples)
    assert all(sample.references for sample in samples)


@EACH
def test_the_name_is_the_file_name(name: str) -> None:
    assert task_named(name).name == name


@EACH
def test_what_it_is_is_stated(name: str) -> None:
    task = task_named(name)
    assert task.metric.strip()
    assert task.version >= 1
    assert task.max_new_tokens >= 1
    assert task.needs in get_args(Prediction)
    assert len(set(task.subsets)) == len(task.subsets) >= 1


@EACH
@pytest.mark.parametrize("split", SPLITS)
def test_a_folder_without_its_files_is_refused(
    name: str, split: Split, tmp_path: Path
) -> None:
    task = plug_in(name)
    if isinstance(task, FileTask):
        with pytest.raises(DataError, match=r"samples\.\*"):
            of_file(name, tmp_path)
        return
    for subset in (None, *task.subsets):
        with pytest.raises(DataError, match=r"\.json.*expected|expected.*\.json"):
            task.samples(tmp_path, split, Selection(subset=subset))


@EACH
def test_a_selection_that_cannot_be_met_is_refused(name: str, tmp_path: Path) -> None:
    task = task_named(name)
    known = f"no subset 'half' .*{task.subsets[0]}"
    with pytest.raises(DataError, match=known):
        task.samples(tmp_path, "search", Selection(subset="half"))
    for fraction in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(DataError, match=f"fraction .* got {fraction}"):
            task.samples(tmp_path, "search", Selection(fraction=fraction))
