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

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from allocator.core.errors import DataError, ReplyError
from allocator.core.ports import Sample, Score
from allocator.core.study import CALIBRATION_SIZE
from evals.accuracy import vqa_accuracy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from allocator.core.ports import Split, Task

QUESTIONS = "v2_OpenEnded_mscoco_{subset}_questions.json"
ANNOTATIONS = "v2_mscoco_{subset}_annotations.json"
IMAGE = "{subset}/COCO_{subset}_{image:012d}.jpg"
SPLITS_FILE = "splits.json"

# Sizes in questions. The published protocol calibrates on 128 image-text pairs and
# scores a tenth of val2014: 21,435 of 214,354.
SEARCH_SIZE = 1000
EVALUATION_DIVISOR = 10
ANSWERS_PER_QUESTION = 10

T = TypeVar("T")


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
    max_new_tokens = 10
    example = Sample(
        id="42000",
        image=Path(IMAGE.format(subset="val2014", image=42)),
        prompt="vqa",
        text="What color is the bus?",
        references=(*["red"] * 6, *["red and white"] * 3, "white"),
    )

    def samples(self, data: Path, split: Split, seed: int) -> tuple[Sample, ...]:
        """Choose the samples of one split; the same seed chooses the same.

        Calibration: 128 questions of train2014 on different images (fewer where there
        are fewer images). Evaluation: a tenth of val2014's questions; search: 1,000 on
        other images, or what is left; or both as `splits.json` lists them. Without that
        file the order is random, so that any prefix is a fair sample.

        Args:
            data: folder with the official files.
            split: which of the three sets.
            seed: decides which images and questions are taken, and their order.

        Raises:
            DataError: a file or image is missing or of another shape, a question has
                no annotation, or there are too few images to divide.
        """
        subset = "train2014" if split == "calibration" else "val2014"
        questions = _read_questions(data, subset)
        chosen = _choose(data, split, seed, questions)
        if not chosen:
            raise DataError(
                f"{data} has too few questions on {subset} images for {split} samples"
            )
        answers = _read_answers(data, subset)
        return tuple(_sample(data, subset, each, answers) for each in chosen)

    def score(self, replies: Sequence[str], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in percent.

        Raises:
            ReplyError: not one reply per sample, or none at all.
        """
        if len(replies) != len(samples) or not samples:
            raise ReplyError(
                f"got {len(replies)} replies for {len(samples)} samples; "
                "each sample needs exactly one"
            )
        values = tuple(
            vqa_accuracy(reply, sample.references)
            for reply, sample in zip(replies, samples, strict=True)
        )
        return Score(mean=sum(values) / len(values), values=values)


PLUGIN: Task = VQAv2()


def _choose(
    data: Path, split: Split, seed: int, questions: Mapping[int, Question]
) -> list[Question]:
    if split == "calibration":
        return _one_per_image(questions.values(), seed)[:CALIBRATION_SIZE]
    if (data / SPLITS_FILE).exists():
        return _listed(data, split, questions)
    evaluation, search = _divide(questions.values(), seed)
    chosen = evaluation if split == "evaluation" else search
    return sorted(chosen, key=lambda question: _rank(seed, question.id))


def _one_per_image(questions: Iterable[Question], seed: int) -> list[Question]:
    """One question on each image, both in the order of the seed."""
    ordered = sorted(
        questions, key=lambda each: (_rank(seed, each.image), _rank(seed, each.id))
    )
    first: dict[int, Question] = {}
    for question in ordered:
        first.setdefault(question.image, question)
    return list(first.values())


def _divide(
    questions: Iterable[Question], seed: int
) -> tuple[list[Question], list[Question]]:
    """Evaluation and search questions; no image is in both."""
    by_image = sorted(questions, key=lambda each: (_rank(seed, each.image), each.id))
    size = max(1, len(by_image) // EVALUATION_DIVISOR)
    evaluation = by_image[:size]
    # Evaluation may end in the middle of an image: the rest of it is left unused.
    others = (each for each in by_image[size:] if each.image != evaluation[-1].image)
    return evaluation, list(others)[:SEARCH_SIZE]


def _rank(seed: int, number: int) -> bytes:
    """A key whose order is random; unlike a shuffle, more images keep the order."""
    return hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()


def _listed(
    data: Path, split: Split, questions: Mapping[int, Question]
) -> list[Question]:
    wanted: list[Any] = _field(_read(data, SPLITS_FILE), split, list, SPLITS_FILE)
    for number in wanted:
        if not isinstance(number, int) or number not in questions:
            raise DataError(
                f"{SPLITS_FILE} in {data} lists {number!r} for {split}, which is not "
                f"a question in {QUESTIONS.format(subset='val2014')}"
            )
    if len(set(wanted)) < len(wanted):
        raise DataError(f"{SPLITS_FILE} in {data} lists a question of {split} twice")
    return [questions[number] for number in wanted]


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
    image = data / IMAGE.format(subset=subset, image=question.image)
    if not image.is_file():
        raise DataError(
            f"the image of question {question.id} is missing: expected {image}"
        )
    return Sample(str(question.id), image, "vqa", question.text, texts)


def _read_questions(data: Path, subset: str) -> dict[int, Question]:
    source = QUESTIONS.format(subset=subset)
    rows: list[Any] = _field(_read(data, source), "questions", list, source)
    questions = (
        Question(
            _field(row, "question_id", int, source),
            _field(row, "image_id", int, source),
            _field(row, "question", str, source),
        )
        for row in rows
    )
    return {question.id: question for question in questions}


def _read_answers(data: Path, subset: str) -> dict[int, list[Any]]:
    source = ANNOTATIONS.format(subset=subset)
    rows: list[Any] = _field(_read(data, source), "annotations", list, source)
    return {
        _field(row, "question_id", int, source): _field(row, "answers", list, source)
        for row in rows
    }


def _field(row: object, key: str, kind: type[T], source: str) -> T:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, kind):
        raise DataError(
            f"{source} is not in the official format: {key!r} of type "
            f"{kind.__name__} is missing"
        )
    return value


def _read(data: Path, name: str) -> object:
    try:
        content = (data / name).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{name} is missing: expected in the folder {data}") from None
    except OSError as error:
        raise DataError(f"{name} in {data} is unreadable: {error.strerror}") from None
    try:
        return json.loads(content, object_hook=_answer_text)
    except (ValueError, RecursionError):
        raise DataError(f"{name} in {data} is not a JSON file") from None


def _answer_text(entry: dict[str, Any]) -> Any:
    """Keep of a human answer its text alone, or train2014 would take gigabytes."""
    answer = entry.get("answer")
    return sys.intern(answer) if isinstance(answer, str) else entry
