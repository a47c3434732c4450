"""A benchmark as one TSV file with its pictures: MMBench, MMStar, AI2D and the like.

`--data` is a file in the form of VLMEvalKit and OpenCompass, such as
MMBench_DEV_EN.tsv, SEEDBench_IMG.tsv, CCBench.tsv, MMStar.tsv, AI2D_TEST.tsv, POPE.tsv,
RealWorldQA.tsv or TextVQA_VAL.tsv of https://opencompass.openxlab.space/utils/VLMEval/,
a row a question:

    index  image       question       hint  A     B     C  D  answer  category
    241    /9j/4AAQSk  What is this?  ...   a cat a dog       B       identification

`image` is a picture in base64, or the index of another row that has it. Choices are
asked as LLaVA-1.5 asks MMBench (model_vqa_mmbench.py of
https://github.com/haotian-liu/LLaVA): hint, question, lettered choices, and "Answer
with the option's letter from the given choices directly." Each row counts by itself: a
question counts for MMBench only if it is answered rightly however its choices are
turned round (CircularEval), and the rows that turn them, of an index above a million,
are samples like others here. Without choices `--metric` is chosen as for any file.

Such a file has no training part: a fifth of the pictures, by their content, calibrate,
three tenths guide the search, and the others are evaluated on. `evaluate --fraction 1`
scores the whole file. Accuracy by category (l2-category, if there is one) is given
beside the score. Files without answers are for their benchmark's server; they can be
read with `--metric agreement`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.own import AGREEMENT
from evals.rows.benchmark import (
    LONGEST_INDEX,
    ROLES,
    categories_of,
    read_benchmark,
)
from evals.rows.task import Kind
from evals.tasks._official import check_selection, portion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allocator.core.own import Digests, FileTask, Summary, Wishes
    from allocator.core.ports import Sample, Score, Selection, Split, Task

# rows of MMBench that turn choices round have an index that is a million more, or two
TURNED = 1_000_000
# more categories than this are no summary
MOST_CATEGORIES = 20


class TSV(Kind):
    """A kind of file that is read a row at a time, and known to have answers."""

    def opened(self, data: Path, wishes: Wishes, digests: Digests) -> Task:
        """The task of a file, as `allocator.core.own.FileTask` has it.

        Raises:
            AllocateError: the file cannot be read or meant, or has no answers and
                nobody asked for agreement; names row and column.
        """
        task: Any = super().opened(data, wishes, digests)
        if task.own_references and wishes.metric is None:
            raise DataError(
                f"{task.meant.table.file.name} has no answers, as files for a "
                f"benchmark's server: take one that has them, or --metric {AGREEMENT} "
                "to compare replies with those of full precision"
            )
        return Opened(task)


PLUGIN: FileTask = TSV("tsv", ROLES, read_benchmark)


@dataclass(frozen=True, eq=False)
class Opened:
    """A benchmark's file as a task: as any file, and by category."""

    task: Any

    def __getattr__(self, name: str) -> Any:
        # `task` itself is looked for here while a copy is made
        if name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)

    @property
    def summary(self) -> Summary:
        """What was found in the file, for people."""
        summary: Summary = self.task.summary
        remarks = [
            "a benchmark of one file has no training part: half of its pictures "
            "calibrate and guide the search, and the score is on the other half "
            "(evaluate --fraction 1: on all)"
        ]
        if self._turned:
            remarks.append(
                f"{self._turned:,} rows turn the choices of others round: each counts "
                "by itself, and the score is not MMBench's circular one"
            )
        return replace(summary, remarks=(*summary.remarks, *remarks))

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Samples of one set; see `evals.rows.task.OpenedTask.samples`.

        A fraction is a share of all rows: up to those of the evaluation set, or 1 for
        all there are, which leaves none for the other sets.

        Raises:
            DataError: the selection is an impossible one.
        """
        check_selection(selection, self.name, self.subsets)
        task, fraction = self.task, selection.fraction
        if fraction is not None:
            everything = [item for own in task.sets.values() for item in own]
            size = portion(len(everything), fraction)
            if size == len(everything) and split == "evaluation":
                task = replace(task, sets={**task.sets, split: everything})
            n_evaluated = len(task.sets["evaluation"])
            if size > n_evaluated:
                raise DataError(
                    f"beside search and calibration, {self.name} has {n_evaluated:,} "
                    f"of {len(everything):,} rows for evaluation, not a fraction of "
                    f"{fraction}"
                )
            selection = replace(selection, fraction=size / n_evaluated)
        own: tuple[Sample, ...] = task.samples(data, split, selection)
        # as the official readers show pictures: whatever EXIF orientations say
        return tuple(replace(sample, upright=False) for sample in own)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample; by category in the details.

        Raises:
            ReplyError: not one reply per sample, or none at all.
        """
        score: Score = self.task.score(predictions, samples)
        values: dict[str, list[float]] = {}
        for sample, value in zip(samples, score.values, strict=True):
            category = self._categories.get(sample.id)
            if category is not None:
                values.setdefault(category, []).append(value)
        by_category = {name: sum(v) / len(v) for name, v in sorted(values.items())}
        return replace(score, details={**score.details, **by_category})

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Rows of the samples, by id."""
        own = self.task.sets.values()
        return {item.id: item.number for items in own for item in items}

    @cached_property
    def _categories(self) -> Mapping[str, str]:
        """Category of each sample; of none where there are too many."""
        of_rows = categories_of(self.task.meant.table)
        if len(set(of_rows.values())) > MOST_CATEGORIES:
            return {}
        return {
            name: of_rows[number]
            for name, number in self._numbers.items()
            if number in of_rows
        }

    @cached_property
    def _turned(self) -> int:
        """How many rows turn the choices of another one round."""
        short = (name for name in self._numbers if len(name) <= LONGEST_INDEX)
        numbers = {int(name) for name in short if name.isdecimal()}
        others = (number for number in numbers if number >= TURNED)
        return sum(number % TURNED in numbers for number in others)
