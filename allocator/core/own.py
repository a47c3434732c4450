"""Tasks of a user's own files: what is asked of them, what they say of themselves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence, Set
    from pathlib import Path

    from allocator.core.ports import Sample, Score, Split, Task

    # digests of files by their content
    Digests = Callable[[Iterable[Path]], Mapping[Path, str]]

# the metric whose references are the model's own replies at full precision
AGREEMENT = "agreement"
# rows that a sentence names
NAMED = 3
# with fewer samples to evaluate on, intervals are wide
FEW = 200
# what each set is for
DOES = {
    "calibration": "calibrate",
    "search": "guide the search",
    "evaluation": "are the evaluation set",
}


@dataclass(frozen=True)
class Wishes:
    """How a file is to be read and scored; Nones: as the file itself suggests.

    `columns` says which columns hold what, such as {"question": "prompt"}; `cache` is a
    folder for pictures that a file holds within itself; `seed` decides which pictures
    are in which set.
    """

    cache: Path
    metric: str | None = None
    columns: Mapping[str, str] | None = None
    seed: int = 0
    skip_broken: bool = False


@dataclass(frozen=True)
class Summary:
    """What was found in a file, for people.

    `counts` are samples by set, `pictures` different ones by set; `metric` is a name
    of `evals.metrics` and `why` says who or what chose it; `words` are the median and
    most words of an answer (None: there are none); `half_width` is how far a 95 %
    interval on the evaluation set reaches to each side at most, in points (None:
    unknown before it is measured); `remarks` are sentences about what was taken
    otherwise than somebody might expect; `left_out` are rows whose pictures cannot be
    read; a reply has at most `longest` tokens (None: nobody says).
    """

    source: str
    counts: Mapping[Split, int]
    pictures: Mapping[Split, int]
    metric: str
    why: str
    words: tuple[int, int] | None
    half_width: float | None
    remarks: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    longest: int | None = None

    @property
    def sentences(self) -> list[str]:
        """The same in a few lines."""
        sets = ", ".join(
            f"{count:,} samples of {self.pictures[split]:,} pictures {DOES[split]}"
            for split, count in self.counts.items()
        )
        told = f"scored by {self.metric} ({self.why})"
        if self.words is not None:
            usual, most = self.words
            words = "word" if usual == 1 else "words"
            told += f"; a usual answer has {usual:,} {words}, the longest {most:,}"
        if self.half_width is not None:
            told += f"; intervals reach at most {self.half_width:.1f} points either way"
        found = [f"{self.source}: {sets}", told, *self.remarks]
        n_evaluated = self.counts.get("evaluation", FEW)
        if n_evaluated < FEW:
            found.append(
                f"{n_evaluated} samples to evaluate on are few: an interval is wide"
            )
        if self.longest is not None:
            found.append(f"replies end after {self.longest} tokens (--max-new-tokens)")
        if self.left_out:
            found.append(
                f"{len(self.left_out):,} samples are left out, as their pictures "
                f"cannot be read: {named_rows(self.left_out)}"
            )
        return found

    def of(self, samples: Mapping[Split, Sequence[Any]]) -> Summary:
        """The same of what is taken, each with its `image`; it may be fewer."""
        half, all_ = self.half_width, self.counts.get("evaluation")
        if half is not None and all_ and samples.get("evaluation"):
            half *= math.sqrt(all_ / len(samples["evaluation"]))
        return replace(
            self,
            counts={split: len(own) for split, own in samples.items()},
            pictures={s: len({i.image for i in own}) for s, own in samples.items()},
            half_width=half,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@runtime_checkable
class FileTask(Protocol):
    """A plug-in that becomes a task when it is shown a file."""

    def opened(self, data: Path, wishes: Wishes, digests: Digests) -> Task:
        """The task of a file, or of a folder that holds one.

        The task has, beside what all have and what a `RowTask` has, `summary`
        (`Summary`) and `own_references` (see `refers_to_itself`).

        Raises:
            DataError: the file cannot be read or meant; names row and column.
        """


@runtime_checkable
class RowTask(Protocol):
    """What a file task becomes when it is opened, beside a task."""

    def rows(self) -> tuple[Sample, ...]:
        """All samples, in the order of their rows."""

    def place(self, sample: Sample) -> str:
        """A sample's row, as sentences name it."""

    def without(self, ids: Set[str]) -> Task:
        """The same without some samples, which its summary names.

        Raises:
            DataError: no sample of a set is left.
        """


class Metric(Protocol):
    """A way to score replies: one file of `evals.metrics`.

    One whose values hang on all references scored together also has `within`, as a
    `CorpusTask` has it.
    """

    @property
    def unit(self) -> str:
        """Name and unit of the score, such as "ANLS (%)"."""

    @property
    def version(self) -> int:
        """Counts up whenever a score changes."""

    @property
    def needs(self) -> str:
        """What a sample has to have: "answers", "choices" or "nothing"."""

    def score(self, replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in order.

        Raises:
            ReplyError: not one text per sample, or none at all.
        """


def refers_to_itself(task: Any) -> bool:
    """Whether a task's references are the model's own replies at full precision.

    Its samples have none until somebody has made them.
    """
    return bool(getattr(task, "own_references", False))


def named_rows(places: Sequence[str]) -> str:
    """The first few of some rows, and how many others there are.

    >>> named_rows(["row 1", "row 3", "row 4", "row 9", "row 12"])
    'row 1; row 3; row 4; and 2 more'
    """
    more = len(places) - NAMED
    return "; ".join([*places[:NAMED], *([f"and {more:,} more"] if more > 0 else [])])


def named_columns(texts: Iterable[str]) -> dict[str, str]:
    """Which columns hold what, of texts such as "question=prompt".

    Raises:
        SpecError: anything else, or one that is named twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        what, _, column = (part.strip() for part in text.partition("="))
        if not what or not column or what in found:
            raise SpecError(
                "columns are given as question=prompt,answers=label, each once, not "
                f"{text!r}"
            )
        found[what] = column
    return found


def summary_of(task: Any) -> Summary | None:
    """What a task says of the file it is read from; None: it is a published one."""
    found: Summary | None = getattr(task, "summary", None)
    return found
