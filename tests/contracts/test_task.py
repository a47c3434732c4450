"""What every task in evals/tasks must do, found without being listed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import ReplyError
from allocator.core.plugins import available, load

if TYPE_CHECKING:
    from allocator.core.ports import Task

EACH = pytest.mark.parametrize("name", available("evals.tasks"))
NONSENSE = "nothing of the sort"


@EACH
def test_the_first_reference_scores_full_marks(name: str) -> None:
    task: Task = load("evals.tasks", name)
    best = task.score([task.example.references[0]], [task.example]).mean
    others = [*task.example.references, NONSENSE, ""]
    assert best > 0
    assert best >= max(task.score([reply], [task.example]).mean for reply in others)
    if "%" in task.metric:
        assert best == pytest.approx(100)


@EACH
def test_the_order_of_the_samples_does_not_matter(name: str) -> None:
    task: Task = load("evals.tasks", name)
    other = replace(task.example, id=f"{task.example.id}-other")
    samples = [task.example, other]
    replies = [task.example.references[0], NONSENSE]
    forth = task.score(replies, samples)
    back = task.score(replies[::-1], samples[::-1])
    assert forth.mean == pytest.approx(back.mean)
    assert forth.values == pytest.approx(back.values[::-1])


@EACH
@pytest.mark.parametrize("n_replies", [0, 1, 3])
def test_another_number_of_replies_than_samples_is_refused(
    name: str, n_replies: int
) -> None:
    task: Task = load("evals.tasks", name)
    replies = [task.example.references[0]] * n_replies
    with pytest.raises(ReplyError):
        task.score(replies, [task.example] * 2)


@EACH
def test_the_name_is_the_file_name(name: str) -> None:
    assert load("evals.tasks", name).name == name


@EACH
def test_the_metric_version_and_length_are_stated(name: str) -> None:
    task: Task = load("evals.tasks", name)
    assert task.metric.strip()
    assert task.version >= 1
    assert task.max_new_tokens >= 1
