"""TextVQA: questions about text in photographs, each answered by ten people.

Singh et al., "Towards VQA Models That Can Read" (CVPR 2019). A data folder, or the
folder `textvqa` in a data folder of several tasks, has the files of
https://textvqa.org/dataset unpacked (of the pictures, train_val_images.zip), under
their own names:

    TextVQA_0.5.1_train.json
    TextVQA_0.5.1_val.json
    train_images/0000599864fd15b3.jpg ...

All pictures of both parts are in train_images; no picture is in both. Questions are
asked without the words that an OCR system found: LLaVA-1.5's published 58.2 % had them
in its prompt, later tables (lmms-eval) mostly are without.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Sample
from evals.accuracy import read_answer_accuracy
from evals.tasks._benchmark import Benchmark, Question, Scored, training_divided
from evals.tasks._official import by_id, field, read_json, score_replies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Score, Split, Task

QUESTIONS = "TextVQA_0.5.1_{part}.json"
IMAGE = "train_images/{image}.jpg"
ANSWERS_PER_QUESTION = 10


def _read(folder: Path, split: Split, _subset: str) -> list[Question]:
    source = QUESTIONS.format(part="val" if split == "evaluation" else "train")
    rows: list[Any] = field(read_json(folder, source), "data", list, source)
    questions = by_id((_question(row, source) for row in rows), source)
    if not questions:
        raise DataError(f"{source} in {folder} has no questions")
    return list(questions.values())


def _question(row: object, source: str) -> Question:
    number = field(row, "question_id", int, source)
    image = field(row, "image_id", str, source)
    text = field(row, "question", str, source)
    given: list[Any] = field(row, "answers", list, source)
    answers = tuple(each for each in given if isinstance(each, str))
    if len(answers) != len(given) or len(answers) != ANSWERS_PER_QUESTION:
        raise DataError(
            f"question {number} has {len(answers)} answers in {source}, "
            f"not {ANSWERS_PER_QUESTION}"
        )
    return Question(str(number), IMAGE.format(image=image), text, answers)


def _score(replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
    return score_replies(replies, samples, read_answer_accuracy)


PLUGIN: Task = Benchmark(
    name="textvqa",
    scorer=Scored("VQA accuracy (%)", 1, _score),
    max_new_tokens=16,
    subsets=("val",),
    examples=(
        Sample(
            id="34602",
            image=Path(IMAGE.format(image="003a8ae2ef43b901")),
            prompt="vqa",
            text="what is the brand of this camera?",
            references=(*["dakota"] * 7, *["dakota digital"] * 2, "nous les gosses"),
        ),
    ),
    read=_read,
    choose=training_divided,
)
