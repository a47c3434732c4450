"""A benchmark as data: how its questions are read and chosen, its replies scored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from allocator.core.errors import DataError
from allocator.core.ports import Prediction, Sample
from allocator.core.study import CALIBRATION_SIZE
from evals.tasks._official import (
    SEARCH_SIZE,
    check_selection,
    existing,
    home,
    one_per_image,
    placed,
    rank,
    share,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from allocator.core.ports import Score, Selection, Split

# of the pictures that are left for calibration and search, at most this share for the
# first: both need some where there are few
CALIBRATING = 0.4


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one image; `image` is its official name, below the folder."""

    id: str
    image: str
    text: str
    answers: tuple[str, ...]


class Scorer(Protocol):
    """How replies are scored: a metric of `evals.metrics`, or a task's own."""

    @property
    def unit(self) -> str:
        """Name and unit of the score."""

    @property
    def version(self) -> int:
        """Counts up whenever a score changes."""

    def score(self, replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in order."""


@dataclass(frozen=True)
class Scored:
    """A scorer that a task has itself."""

    unit: str
    version: int
    score: Callable[[Sequence[Any], Sequence[Sample]], Score]


@dataclass(frozen=True)
class Benchmark:
    """A task whose questions all are asked alike.

    `read(folder, split, subset)` gives the questions of the official file that a split
    is taken from, `choose` those of them that are taken. `remarks` are sentences about
    what is otherwise than somebody might expect.
    """

    name: str
    scorer: Scorer
    max_new_tokens: int
    subsets: tuple[str, ...]
    examples: tuple[Sample, ...]
    read: Callable[[Path, Split, str], Sequence[Question]]
    choose: Callable[[Sequence[Question], Split, Selection], list[Question]]
    remarks: tuple[str, ...] = ()
    needs: Prediction = "reply"

    @property
    def metric(self) -> str:
        """Name and unit of the score."""
        return self.scorer.unit

    @property
    def version(self) -> int:
        """Scores of different versions are never compared."""
        return self.scorer.version

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Choose the samples of one split; the same seed chooses the same.

        Args:
            data: folder with the official files, or with a folder of the task's name
                that has them; pictures may lie in either.
            split: which of the three sets.
            selection: the seed decides which questions are taken, and their order.

        Raises:
            DataError: a file or image is missing or of another shape, there are too few
                questions, or the selection is an impossible one.
        """
        check_selection(selection, self.name, self.subsets)
        folder = home(data, self.name)
        subset = selection.subset or self.subsets[0]
        chosen = self.choose(self.read(folder, split, subset), split, selection)
        if not chosen:
            raise DataError(
                f"{self.name} in {folder} has questions on too few images for {split} "
                "samples"
            )
        return tuple(_sample(data, folder, question) for question in chosen)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample.

        Raises:
            ReplyError: not one text per sample, or none at all.
        """
        return self.scorer.score(predictions, samples)


def _sample(data: Path, folder: Path, question: Question) -> Sample:
    owner = f"question {question.id}"
    file = placed(folder, question.image, owner)
    shared = data / question.image
    # tasks on the photographs of one data set share them
    if not os.path.isfile(file) and os.path.isfile(shared):
        file = shared
    return Sample(
        question.id,
        existing(file, owner),
        "vqa",
        question.text,
        question.answers,
        upright=False,
    )


def file_by_part(
    questions: Sequence[Question], split: Split, selection: Selection
) -> list[Question]:
    """Choose where each split has a file of its own.

    Calibration: 128 on different images. Search: 1,000. Evaluation: all, or the
    fraction asked for. In random order, so that any prefix is a fair sample.
    """
    if split == "calibration":
        return one_per_image(questions, selection.seed, CALIBRATION_SIZE)
    order = shuffled(questions, selection.seed)
    return order[:SEARCH_SIZE] if split == "search" else share(order, selection)


def training_divided(
    questions: Sequence[Question], split: Split, selection: Selection
) -> list[Question]:
    """Choose where calibration and search share the training file.

    They share no image: calibration takes 128 (two fifths where there are few), search
    1,000 questions on others.
    """
    if split == "evaluation":
        return file_by_part(questions, split, selection)
    return set_aside(questions, split, selection.seed)


def set_aside(questions: Iterable[Question], split: Split, seed: int) -> list[Question]:
    """Calibration or search samples of questions on which nothing is evaluated."""
    kept = list(questions)
    images = sorted({each.image for each in kept}, key=lambda image: rank(seed, image))
    size = min(CALIBRATION_SIZE, round(CALIBRATING * len(images)))
    first = frozenset(images[:size])
    if split == "calibration":
        of_first = (each for each in kept if each.image in first)
        return one_per_image(of_first, seed, size)
    others = (each for each in kept if each.image not in first)
    return shuffled(others, seed)[:SEARCH_SIZE]
