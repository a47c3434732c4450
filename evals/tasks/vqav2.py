"""VQAv2: open questions about COCO photographs, each answered by ten people.

Goyal et al., "Making the V in VQA Matter" (CVPR 2017). A data folder has the files of
https://visualqa.org/download.html unpacked, under their own names:

    v2_OpenEnded_mscoco_train2014_questions.json
    v2_mscoco_train2014_annotations.json
    train2014/COCO_train2014_000000000009.jpg ...
    v2_OpenEnded_mscoco_val2014_questions.json
    v2_mscoco_val2014_annotations.json
    val2014/COCO_val2014_000000000042.jpg ...

A file `splits.json` beside them, {"search": [question ids], "evaluation": [question
ids]}, says which questions of val2014 to use; without it they are chosen here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Prediction, Sample
from allocator.core.study import CALIBRATION_SIZE
from evals.accuracy import vqa_accuracy
from evals.tasks._official import (
    SEARCH_SIZE,
    by_id,
    check_selection,
    existing,
    field,
    has,
    listed,
    one_per_image,
    portion,
    rank,
    read_json,
    score_replies,
    share,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from allocator.core.ports import Score, Selection, Split, Task

QUESTIONS = "v2_OpenEnded_mscoco_{subset}_questions.json"
ANNOTATIONS = "v2_mscoco_{subset}_annotations.json"
IMAGE = "{subset}/COCO_{subset}_{image:012d}.jpg"
SPLITS_FILE = "splits.json"

# The published protocol scores a tenth of val2014: 21,435 of 214,354 questions.
EVALUATION_FRACTION = 0.1
ANSWERS_PER_QUESTION = 10


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one image, by their official numbers."""

    id: int
    image: int
    text: str


class VQAv2:
    """Reads the official files and scores replies by VQA accuracy."""

    name = "vqav2"
    metric = "VQA accuracy (%)"
    version = 1
    needs: Prediction = "reply"
    max_new_tokens = 10
    subsets = ("val2014",)
    examples = (
        Sample(
            id="42000",
            image=Path(IMAGE.format(subset="val2014", image=42)),
            prompt="vqa",
            text="What color is the bus?",
            references=(*["red"] * 6, *["red and white"] * 3, "white"),
        ),
    )

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Choose the samples of one split; the same seed chooses the same.

        Calibration: 128 questions of train2014 on different images (fewer where there
        are fewer images). Evaluation: a tenth of val2014's questions, or the fraction
        asked for; search: 1,000 on other images, or what is left. Their order is
        random, so that any prefix is a fair sample. Where `splits.json` lists both,
        they are taken in its order, and a fraction is one of its evaluation questions.

        Args:
            data: folder with the official files.
            split: which of the three sets.
            selection: the seed decides which images and questions are taken, and their
                order.

        Raises:
            DataError: a file or image is missing or of another shape, a question has
                no annotation, there are too few images to divide, or the selection is
                an impossible one.
        """
        check_selection(selection, self.name, self.subsets)
        subset = "train2014" if split == "calibration" else "val2014"
        questions = _read_questions(data, subset)
        chosen = _choose(data, split, selection, questions)
        if not chosen:
            raise DataError(
                f"{data} has too few questions on {subset} images for {split} samples"
                + _beside(split, selection)
            )
        answers = _read_answers(data, subset, {each.id: each for each in chosen})
        return tuple(_sample(data, subset, each, answers) for each in chosen)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in percent.

        Raises:
            ReplyError: not one reply per sample, or none at all.
        """
        return score_replies(predictions, samples, vqa_accuracy)


PLUGIN: Task = VQAv2()


def _choose(
    data: Path, split: Split, selection: Selection, questions: Mapping[int, Question]
) -> list[Question]:
    if split == "calibration":
        return one_per_image(questions.values(), selection.seed, CALIBRATION_SIZE)
    if has(data, SPLITS_FILE):
        source = QUESTIONS.format(subset="val2014")
        chosen = listed(data, SPLITS_FILE, split, questions, source)
        return share(chosen, selection) if split == "evaluation" else chosen
    evaluation, search = _divide(questions.values(), selection)
    chosen = evaluation if split == "evaluation" else search
    return shuffled(chosen, selection.seed)


def _divide(
    questions: Iterable[Question], selection: Selection
) -> tuple[list[Question], list[Question]]:
    """Evaluation and search questions; no image is in both."""
    seed, fraction = selection.seed, selection.fraction
    by_image = sorted(questions, key=lambda each: (rank(seed, each.image), each.id))
    size = portion(len(by_image), EVALUATION_FRACTION if fraction is None else fraction)
    evaluation = by_image[:size]
    # Evaluation may end in the middle of an image: the rest of it is left unused.
    others = (each for each in by_image[size:] if each.image != evaluation[-1].image)
    return evaluation, list(others)[:SEARCH_SIZE]


def _beside(split: Split, selection: Selection) -> str:
    if split != "search" or selection.fraction is None:
        return ""
    return f" beside a fraction of {selection.fraction} of them for evaluation"


def _sample(
    data: Path, subset: str, question: Question, answers: Mapping[int, list[Any]]
) -> Sample:
    source = ANNOTATIONS.format(subset=subset)
    given = answers.get(question.id)
    if given is None:
        raise DataError(f"question {question.id} has no annotation in {source}")
    texts = tuple(answer for answer in given if isinstance(answer, str))
    if len(texts) != len(given) or len(texts) != ANSWERS_PER_QUESTION:
        raise DataError(
            f"question {question.id} has {len(texts)} answers in {source}, "
            f"not {ANSWERS_PER_QUESTION}"
        )
    file = data / IMAGE.format(subset=subset, image=question.image)
    image = existing(file, f"question {question.id}")
    return Sample(str(question.id), image, "vqa", question.text, texts, upright=False)


def _read_questions(data: Path, subset: str) -> dict[int, Question]:
    source = QUESTIONS.format(subset=subset)
    rows: list[Any] = field(read_json(data, source), "questions", list, source)
    questions = (
        Question(
            field(row, "question_id", int, source),
            field(row, "image_id", int, source),
            field(row, "question", str, source),
        )
        for row in rows
    )
    return by_id(questions, source)


def _read_answers(
    data: Path, subset: str, questions: Mapping[int, Question]
) -> dict[int, list[Any]]:
    """Human answers to some questions, by the question's number."""
    source = ANNOTATIONS.format(subset=subset)
    content = read_json(data, source, _answer_text)
    rows: list[Any] = field(content, "annotations", list, source)
    found: dict[int, list[Any]] = {}
    for row in rows:
        number = field(row, "question_id", int, source)
        answers: list[Any] = field(row, "answers", list, source)
        if number not in questions:
            continue
        if number in found:
            raise DataError(f"{source} has two annotations of question {number}")
        if field(row, "image_id", int, source) != questions[number].image:
            raise DataError(
                f"question {number} is about another image in {source} than in "
                f"{QUESTIONS.format(subset=subset)}"
            )
        found[number] = answers
    return found


def _answer_text(entry: dict[str, Any]) -> Any:
    """Keep of a human answer its text alone, or train2014 would take gigabytes."""
    answer = entry.get("answer")
    return sys.intern(answer) if isinstance(answer, str) else entry
