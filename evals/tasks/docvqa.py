"""DocVQA: questions about scanned pages, answered in the words of the page.

Mathew et al., "DocVQA: A Dataset for VQA on Document Images" (WACV 2021): its
task 1, single pages. A data folder, or the folder `docvqa` in a data folder of several
tasks, has the files of https://rrc.cvc.uab.es/?ch=17&com=downloads unpacked,
under their own names:

    spdocvqa_qas/train_v1.0_withQT.json
    spdocvqa_qas/val_v1.0_withQT.json
    spdocvqa_images/xnbl0037_1.png ...

The first release is read too: `train/train_v1.0.json` with `train/documents/*.png`,
`val/` likewise; and either kind of file right in the folder, with `documents/` or
`spdocvqa_images/` beside it. Answers of the test part are with its server alone, so
evaluation is on the validation part, as in most tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Sample
from evals.metrics.anls import PLUGIN as ANLS
from evals.tasks._benchmark import Benchmark, Question, training_divided
from evals.tasks._official import by_id, field, has, read_json

if TYPE_CHECKING:
    from allocator.core.ports import Split, Task

# the file of today's download first
QUESTIONS = (
    "spdocvqa_qas/{part}_v1.0_withQT.json",
    "{part}_v1.0_withQT.json",
    "{part}/{part}_v1.0_withQT.json",
    "{part}/{part}_v1.0.json",
    "{part}_v1.0.json",
)
# pictures of today's download; files name them by the folder of the first release
IMAGES, NAMED = "spdocvqa_images", "documents/"


def _read(folder: Path, split: Split, _subset: str) -> list[Question]:
    part = "val" if split == "evaluation" else "train"
    names = [name.format(part=part) for name in QUESTIONS]
    source = next((name for name in names if has(folder, name)), names[0])
    rows: list[Any] = field(read_json(folder, source), "data", list, source)
    flat = has(folder, IMAGES)
    questions = by_id((_question(row, source, flat) for row in rows), source)
    if not questions:
        raise DataError(f"{source} in {folder} has no questions")
    return list(questions.values())


def _question(row: object, source: str, flat: bool) -> Question:
    number = field(row, "questionId", int, source)
    image = field(row, "image", str, source)
    text = field(row, "question", str, source)
    given: list[Any] = field(row, "answers", list, source)
    answers = tuple(each for each in given if isinstance(each, str))
    if len(answers) != len(given) or not answers:
        raise DataError(f"question {number} has no answers that are texts in {source}")
    beside = f"{IMAGES}/{image.removeprefix(NAMED)}"
    place = beside if flat else f"{Path(source).parent}/{image}"
    return Question(str(number), place, text, answers)


PLUGIN: Task = Benchmark(
    name="docvqa",
    scorer=ANLS,
    max_new_tokens=32,
    subsets=("val",),
    examples=(
        Sample(
            id="337",
            image=Path(IMAGES, "xnbl0037_1.png"),
            prompt="vqa",
            text="what is the date mentioned in this letter?",
            references=("1/8/93",),
        ),
    ),
    read=_read,
    choose=training_divided,
)
