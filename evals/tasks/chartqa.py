"""ChartQA: questions about charts, written by people or made from people's summaries.

Masry et al., "ChartQA: A Benchmark for Question Answering about Charts with Visual and
Logical Reasoning" (Findings of ACL 2022). A data folder, or the folder `chartqa` in a
data folder of several tasks, has the folder `ChartQA Dataset` of
https://github.com/vis-nlp/ChartQA as it is, or what is in it:

    ChartQA Dataset/train/train_human.json
    ChartQA Dataset/train/train_augmented.json
    ChartQA Dataset/train/png/10095.png ...
    ChartQA Dataset/val/ and ChartQA Dataset/test/ likewise

The published score is the mean of both halves of test, 1,250 questions each, so that it
is the mean over all; each half is a subset of its own, too. How numbers are read is
said in evals/metrics/relaxed.py: a few replies are right that the first code did not
count.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Sample, Score
from evals.metrics.relaxed import PLUGIN as RELAXED
from evals.tasks._benchmark import Benchmark, Question, Scored, file_by_part
from evals.tasks._official import field, has, read_json, shuffled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Selection, Split, Task

FOLDER = "ChartQA Dataset"
QUESTIONS = "{part}/{part}_{half}.json"
IMAGE = "{part}/png/{image}"
HALVES = ("human", "augmented")
BOTH = "test"
PARTS: dict[Split, str] = {
    "calibration": "train",
    "search": "val",
    "evaluation": "test",
}


def _read(folder: Path, split: Split, subset: str) -> list[Question]:
    halves = HALVES if subset == BOTH else (subset,)
    within = f"{FOLDER}/" if has(folder, FOLDER) else ""
    found: list[Question] = []
    for half in halves:
        source = within + QUESTIONS.format(part=PARTS[split], half=half)
        rows = read_json(folder, source)
        if not isinstance(rows, list) or not rows:
            raise DataError(
                f"{source} is not in the official format: a list of questions is "
                "missing"
            )
        for number, row in enumerate(rows, 1):
            image = field(row, "imgname", str, source)
            text = field(row, "query", str, source)
            label = field(row, "label", str, source)
            place = within + IMAGE.format(part=PARTS[split], image=image)
            # the files have no names for questions: their place, counted from 1
            name = f"{PARTS[split]}-{half}-{number}"
            found.append(Question(name, place, text, (label,)))
    return found


def _half(name: str) -> str:
    """The half that a question is of, by its name."""
    return name.split("-")[1]


def _choose(
    questions: Sequence[Question], split: Split, selection: Selection
) -> list[Question]:
    if split != "evaluation":
        return file_by_part(questions, split, selection)
    # a fraction has as much of each half, as the whole has
    halves = (
        file_by_part([q for q in questions if _half(q.id) == half], split, selection)
        for half in HALVES
    )
    return shuffled((each for half in halves for each in half), selection.seed)


def _score(replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
    """Relaxed accuracy; that of each half as details, where there are both."""
    score = RELAXED.score(replies, samples)
    values: dict[str, list[float]] = {half: [] for half in HALVES}
    for sample, value in zip(samples, score.values, strict=True):
        values[_half(sample.id)].append(value)
    if not all(values.values()):
        return score
    details = {f"{half} (%)": sum(each) / len(each) for half, each in values.items()}
    return Score(score.mean, score.values, details)


PLUGIN: Task = Benchmark(
    name="chartqa",
    scorer=Scored(RELAXED.unit, RELAXED.version, _score),
    max_new_tokens=16,
    subsets=(BOTH, *HALVES),
    examples=(
        Sample(
            id="val-human-17",
            image=Path(FOLDER, IMAGE.format(part="val", image="16723.png")),
            prompt="vqa",
            text="What's the total sum of peak points of all three lines?",
            references=("155",),
        ),
    ),
    read=_read,
    choose=_choose,
)
