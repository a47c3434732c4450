"""POPE: is there such a thing in the picture? Half of what is asked for is not.

Li et al., "Evaluating Object Hallucination in Large Vision-Language Models" (EMNLP
2023). A data folder, or the folder `pope` in a data folder of several tasks, has the
files of https://github.com/AoiDragon/POPE/tree/main/output/coco under their own names,
and COCO's photographs, which may also lie in `val2014` beside those of other tasks:

    coco_pope_random.json
    coco_pope_popular.json
    coco_pope_adversarial.json
    val2014/COCO_val2014_000000310196.jpg ...

They differ in what is asked for and not there: anything, what is frequent, what often
is where the rest of the picture is; all three ask about the same 500 photographs. There
is no training part: half of the photographs are evaluated on, or the fraction asked
for, and two fifths of the others calibrate, three fifths guide the search. A model is
scored on all as published with `--fraction 1`, which leaves nothing to search with.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Sample, Score
from evals.tasks._benchmark import Benchmark, Question, Scored, set_aside
from evals.tasks._official import (
    check_paired,
    field,
    portion,
    rank,
    read_json_lines,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Selection, Split, Task

QUESTIONS = "coco_pope_{kind}.json"
KINDS = ("random", "popular", "adversarial")
ALL = "all"
IMAGE = "val2014/{image}"
# share of the photographs on which is evaluated, where nobody asks for another
EVALUATION_FRACTION = 0.5
NO = {"no", "No", "not"}


def says_yes(reply: str) -> bool:
    """What a reply is taken for.

    As evaluate.py of the official repository has it, and eval_pope.py of LLaVA: yes
    unless there is a no among the words before the first period. So whatever else a
    model writes is a yes: the share of these is given beside the accuracy.

    >>> says_yes("No, there is not. Yes."), says_yes("There isn't one")
    (False, True)
    """
    words = reply.strip().split(".")[0].replace(",", "").split(" ")
    return not NO.intersection(words)


def _score(replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
    """Accuracy; as details what is published beside it, "yes" being the positive."""
    check_paired(replies, samples, str, "replies")
    pairs = [
        (says_yes(reply), sample.references[0] == "yes")
        for reply, sample in zip(replies, samples, strict=True)
    ]
    times = Counter(pairs)
    said, true = times[True, True] + times[True, False], times[True, True]
    wanted = true + times[False, True]
    values = tuple(100.0 * (reply == label) for reply, label in pairs)
    details = {
        "F1 (%)": _percent(2 * true, said + wanted),
        "precision (%)": _percent(true, said),
        "recall (%)": _percent(true, wanted),
        "yes (%)": _percent(said, len(pairs)),
    }
    return Score(sum(values) / len(values), values, details)


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0


def _read(folder: Path, _split: Split, subset: str) -> list[Question]:
    kinds = KINDS if subset == ALL else (subset,)
    return [question for kind in kinds for question in _of_kind(folder, kind)]


def _of_kind(folder: Path, kind: str) -> list[Question]:
    source = QUESTIONS.format(kind=kind)
    questions: dict[str, Question] = {}
    surplus: Counter[str] = Counter()
    for row in read_json_lines(folder, source):
        number = field(row, "question_id", int, source)
        image = field(row, "image", str, source)
        text = field(row, "text", str, source)
        label = field(row, "label", str, source)
        if label not in ("yes", "no"):
            raise DataError(
                f"question {number} in {source} has the label {label!r}, not yes or no"
            )
        name = f"{kind}-{number}"
        if name in questions:
            raise DataError(f"{source} has two questions {number}")
        surplus[image] += 1 if label == "yes" else -1
        questions[name] = Question(name, IMAGE.format(image=image), text, (label,))
    if not questions:
        raise DataError(f"{source} in {folder} has no questions")
    for image, number in surplus.items():
        if number:
            raise DataError(
                f"{source} in {folder} has not as many questions to answer with yes as "
                f"with no on image {image!r}: it is cut off, or not POPE's"
            )
    return list(questions.values())


def _choose(
    questions: Sequence[Question], split: Split, selection: Selection
) -> list[Question]:
    seed, fraction = selection.seed, selection.fraction
    images = sorted(
        {each.image for each in questions}, key=lambda image: rank(seed, image)
    )
    size = portion(len(images), EVALUATION_FRACTION if fraction is None else fraction)
    evaluated = frozenset(images[:size])
    if split == "evaluation":
        return shuffled((e for e in questions if e.image in evaluated), seed)
    others = (each for each in questions if each.image not in evaluated)
    return set_aside(others, split, seed)


PLUGIN: Task = Benchmark(
    name="pope",
    scorer=Scored("POPE accuracy (%)", 1, _score),
    max_new_tokens=10,
    subsets=(ALL, *KINDS),
    examples=(
        Sample(
            id="random-2",
            image=Path(IMAGE.format(image="COCO_val2014_000000016631.jpg")),
            prompt="vqa",
            text="Is there a refrigerator in the image?",
            references=("no",),
        ),
    ),
    read=_read,
    choose=_choose,
    remarks=(
        "POPE has no training part: half of its photographs calibrate and guide the "
        "search, and the score is on the other half (evaluate --fraction 1: on all)",
    ),
)
