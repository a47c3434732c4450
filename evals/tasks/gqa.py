"""GQA: compositional questions about photographs, each with one answer.

Hudson and Manning, "GQA: a New Dataset for Real-World Visual Reasoning and
Compositional Question Answering" (CVPR 2019). A data folder, or the folder `gqa` in a
data folder of several tasks, has the files of
https://cs.stanford.edu/people/dorarad/gqa/download.html unpacked (of the questions, the
balanced ones), under their own names:

    train_balanced_questions.json
    val_balanced_questions.json
    testdev_balanced_questions.json
    images/2354786.jpg ...
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from allocator.core.errors import DataError
from allocator.core.ports import Prediction, Sample
from allocator.core.study import CALIBRATION_SIZE
from evals.accuracy import exact_match
from evals.tasks._official import (
    SEARCH_SIZE,
    check_selection,
    existing,
    field,
    home,
    one_per_image,
    placed,
    read_json,
    score_replies,
    share,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Score, Selection, Split, Task

QUESTIONS = "{part}_balanced_questions.json"
IMAGE = "images/{image}.jpg"
KEYS = ("imageId", "question", "answer")
PARTS: dict[Split, str] = {
    "calibration": "train",
    "search": "val",
    "evaluation": "testdev",
}


class Kept(NamedTuple):
    """What is kept of a question's entry; its program is most of a file."""

    image: str
    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one image, by their official names."""

    id: str
    kept: Kept

    @property
    def image(self) -> str:
        """Official name of the image."""
        return self.kept.image


class GQA:
    """Reads the official files and scores replies by exact match."""

    name = "gqa"
    metric = "GQA accuracy (%)"
    version = 1
    needs: Prediction = "reply"
    max_new_tokens = 10
    subsets = ("testdev",)
    examples = (
        Sample(
            id="201307251",
            image=Path(IMAGE.format(image="n161313")),
            prompt="gqa",
            text="Is it overcast?",
            references=("no",),
        ),
    )

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Choose the samples of one split; the same seed chooses the same.

        Calibration: 128 balanced questions of train on different images. Search: 1,000
        of val. Evaluation: test-dev, all 12,578, or the fraction asked for. Their order
        is random, so that any prefix is a fair sample.

        Args:
            data: folder with the official files, or with a folder `gqa` of them.
            split: which of the three sets.
            selection: the seed decides which questions are taken, and their order.

        Raises:
            DataError: a file or image is missing or of another shape, a file has no
                question, or the selection is an impossible one.
        """
        check_selection(selection, self.name, self.subsets)
        folder = home(data, self.name)
        source = QUESTIONS.format(part=PARTS[split])
        questions = _read_questions(folder, source)
        if not questions:
            raise DataError(f"{source} in {folder} has no questions for {split}")
        chosen = _choose(questions, split, selection)
        return tuple(_sample(folder, question) for question in chosen)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in percent.

        Raises:
            ReplyError: not one reply per sample, or none at all.
        """
        return score_replies(predictions, samples, _accuracy)


PLUGIN: Task = GQA()


def _accuracy(reply: str, references: tuple[str, ...]) -> float:
    return exact_match(reply, references[0])


def _choose(
    questions: list[Question], split: Split, selection: Selection
) -> list[Question]:
    if split == "calibration":
        return one_per_image(questions, selection.seed, CALIBRATION_SIZE)
    order = shuffled(questions, selection.seed)
    return order[:SEARCH_SIZE] if split == "search" else share(order, selection)


def _sample(folder: Path, question: Question) -> Sample:
    image, text, answer = question.kept
    owner = f"question {question.id}"
    file = existing(placed(folder, IMAGE.format(image=image), owner), owner)
    return Sample(question.id, file, "gqa", text, (answer,), upright=False)


def _read_questions(folder: Path, source: str) -> list[Question]:
    """All questions of a file: 943,000 of train take a few hundred megabytes."""
    n_kept = 0

    def keep(entry: dict[str, Any]) -> object:
        nonlocal n_kept
        image, text, answer = (entry.get(key) for key in KEYS)
        if isinstance(image, str) and isinstance(text, str) and isinstance(answer, str):
            n_kept += 1
            return Kept(sys.intern(image), text, sys.intern(answer))
        return entry

    entries = read_json(folder, source, keep)
    if not isinstance(entries, dict):
        raise DataError(
            f"{source} is not in the official format: an object of questions by id "
            "is missing"
        )
    for entry in entries.values():
        if not isinstance(entry, Kept):
            for key in KEYS:
                field(entry, key, str, source)
    if n_kept > len(entries):
        # of two equal keys, a JSON reader keeps the last
        raise DataError(f"{source} has two questions of the same id")
    return [Question(name, entry) for name, entry in entries.items()]
