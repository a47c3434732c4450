"""A user's file as a task: read once, divided, worded, scored by one metric."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.own import AGREEMENT, Summary
from allocator.core.plugins import load
from allocator.core.ports import Prediction, Sample
from allocator.core.study import CALIBRATION_SIZE
from evals.rows.choosing import chosen_metric, longest_reply, words_of
from evals.rows.columns import ROLES, meant_columns
from evals.rows.doubts import check_clear
from evals.rows.items import Meant, read_items, with_pictures, with_sets
from evals.rows.letters import remarks_on_answers
from evals.rows.sets import as_said, check_count, divided, shared_picture
from evals.rows.tables import read_table
from evals.tasks._official import (
    SEARCH_SIZE,
    check_selection,
    one_per_image,
    share,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set
    from pathlib import Path

    from allocator.core.own import Digests, Metric, Wishes
    from allocator.core.ports import Score, Selection, Split, Task
    from evals.rows.choosing import Chosen
    from evals.rows.files import Table
    from evals.rows.sets import Item, Sets

# counts up whenever a file is read, divided or worded otherwise
VERSION = 1
# LLaVA-1.5's words behind choices (its evaluation of MMBench and ScienceQA)
LETTER = "Answer with the option's letter from the given choices directly."
# metrics of replies in sentences, which are asked for as the text stands
AS_IT_STANDS = ("f1",)
# columns that a sentence names
MOST_NAMED = 12
# the standard error of one score between 0 and 100 is at most this
WIDEST = 50


@dataclass(frozen=True)
class Kind:
    """A kind of user's file: its name, and how its rows differ from those of any file.

    `roles` are names of columns by what they hold (`evals.rows.columns.ROLES`), and
    `read` gives the table of a file, and may keep pictures in a folder as it reads.
    """

    name: str
    roles: Mapping[str, Sequence[str]] = field(default_factory=lambda: ROLES)
    read: Callable[[Path, Path], Table] = lambda data, _cache: read_table(data)
    needs: Prediction = "reply"
    examples: tuple[Sample, ...] = ()

    def opened(self, data: Path, wishes: Wishes, digests: Digests) -> Task:
        """The task of a file, as `allocator.core.own.FileTask` has it.

        Raises:
            AllocateError: the file cannot be read or meant, or a wish not be kept;
                names row and column.
        """
        if wishes.metric is not None:
            load("evals.metrics", wishes.metric, "metric")
        table = self.read(data, wishes.cache)
        name, named = table.file.name, wishes.columns or {}
        meant = Meant(table, meant_columns(table, named, self.roles))
        check_clear(table, meant.columns, named, wishes.metric, self.roles)
        check_count(table)
        items = with_sets(meant, read_items(meant), named="split" in named)
        chosen = chosen_metric(items, wishes.metric, name)
        # the cheap things are looked at first
        items = with_pictures(meant, items, wishes, digests)
        said = items[0].split is not None
        sets = as_said(items, name) if said else divided(items, wishes.seed, name)
        _check_apart(meant, sets)
        opened = OpenedTask if not hasattr(chosen.metric, "within") else OpenedCorpus
        task = opened(self.name, meant.without_pictures(), sets, chosen)
        _check_scored(task)
        return task


@dataclass(frozen=True, eq=False)
class OpenedTask:
    """A task of one file, which is in memory."""

    name: str
    meant: Meant
    sets: Sets
    chosen: Chosen
    left_out: tuple[str, ...] = ()
    needs: Prediction = "reply"
    subsets: tuple[str, ...] = ("evaluation",)

    @property
    def metric(self) -> str:
        """Name and unit of the score."""
        return self._scorer.unit

    @property
    def version(self) -> int:
        """Differs with the metric and its version."""
        made_of = [VERSION, self.chosen.name, self._scorer.version]
        text = json.dumps(made_of)
        return 1 + int(hashlib.sha256(text.encode()).hexdigest()[:7], 16)

    @property
    def own_references(self) -> bool:
        """Whether the model's replies at full precision are what is right."""
        return self.chosen.name == AGREEMENT

    @cached_property
    def max_new_tokens(self) -> int:
        """Longest reply: see `evals.rows.choosing.longest_reply`."""
        return longest_reply(self._items, self.chosen.name)

    @property
    def examples(self) -> tuple[Sample, ...]:
        """A sample whose references get the best score there is; none without any."""
        if self.own_references:
            return ()
        return (self._sample(self.sets["evaluation"][0]),)

    @cached_property
    def summary(self) -> Summary:
        """What was found in the file, for people."""
        chosen = {split: self._own(split, seed=0) for split in self.sets}
        half = None
        if "%" in self.metric:
            half = 1.96 * WIDEST / math.sqrt(len(chosen["evaluation"]))
        return Summary(
            source=str(self.meant.table.file),
            counts={},
            pictures={},
            metric=self.chosen.name,
            why=self.chosen.why,
            words=None if self.own_references else words_of(self._items),
            half_width=half,
            remarks=tuple(self._remarks()),
            left_out=self.left_out,
            longest=self.max_new_tokens,
        ).of(chosen)

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Samples of one set, in the order of the seed: any prefix is a fair sample.

        Calibration: one question on each of its pictures, at most 128. Evaluation: all,
        or the fraction asked for. Which set a picture is in was decided when the file
        was opened.

        Raises:
            DataError: the selection is an impossible one.
        """
        del data
        check_selection(selection, self.name, self.subsets)
        own = self._own(split, selection.seed)
        if split == "evaluation":
            own = share(own, selection)
        return tuple(map(self._sample, own))

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, as the metric does.

        Raises:
            ReplyError: not one reply per sample, or none at all.
        """
        return self._scorer.score(predictions, samples)

    def place(self, sample: Sample) -> str:
        """A sample's row, as sentences name it."""
        number = self._numbers.get(sample.id)
        if number is None:
            raise DataError(f"no row of {self.meant.table.file.name} is {sample.id}")
        return self.meant.table.place(number, self.meant.columns.of["image"])

    def rows(self) -> tuple[Sample, ...]:
        """All samples, in the order of their rows."""
        return tuple(map(self._sample, sorted(self._items, key=lambda i: i.number)))

    def without(self, ids: Set[str]) -> Task:
        """The same without some samples, which its summary names.

        Raises:
            DataError: no sample of a set is left.
        """
        sets: Sets = {
            split: [item for item in own if item.id not in ids]
            for split, own in self.sets.items()
        }
        for split, own in sets.items():
            if not own:
                raise DataError(
                    f"no picture of the set {split!r} of {self.meant.table.file.name} "
                    "can be read"
                )
        left_out = [self.place(each) for each in self.rows() if each.id in ids]
        return replace(self, sets=sets, left_out=(*self.left_out, *left_out))

    @property
    def _scorer(self) -> Metric:
        return self.chosen.metric

    @cached_property
    def _items(self) -> list[Item]:
        return [item for own in self.sets.values() for item in own]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {item.id: item.number for item in self._items}

    def _own(self, split: Split, seed: int) -> list[Item]:
        items = self.sets[split]
        if split == "calibration":
            return one_per_image(items, seed, CALIBRATION_SIZE)
        return shuffled(items, seed)

    def _sample(self, item: Item) -> Sample:
        prompt, text = self._asked(item)
        references = () if self.own_references else item.answers
        return Sample(
            *(item.id, item.file, prompt, text, references), choices=item.choices
        )

    def _asked(self, item: Item) -> tuple[str, str]:
        """Kind of prompt, and the text that is asked."""
        if item.choices:
            return "plain", with_choices(item.text, item.choices)
        if not item.text:
            return "caption", ""
        kind = "plain" if self.chosen.name in AS_IT_STANDS else "vqa"
        return kind, item.text

    def _remarks(self) -> list[str]:
        columns, found = self.meant.columns, []
        answered = any(item.answers for item in self._items)
        if self.own_references and answered:
            found.append("answers of the file are passed over: replies are compared")
        if columns.unread:
            found.append(f"not read: {_listed('column', columns.unread)}")
        found += remarks_on_answers(self._items, self.chosen.name)
        split = columns.get("split")
        if split is not None and self._items[0].split is None:
            found.append(
                f"column {split!r} holds no sets of ours, and pictures are divided by "
                "their content"
            )
        n_left = len(self.sets["calibration"]) - len(self._own("calibration", seed=0))
        if n_left:
            found.append(
                f"{n_left:,} samples of pictures that calibrate are left out: it takes "
                f"one of each picture, {CALIBRATION_SIZE} at most"
            )
        n_read = len(self._items) + len(self.left_out)
        if n_more := len(self.meant.table.rows) - n_read:
            found.append(
                f"{n_more:,} samples of a picture that guides the search are left out: "
                f"it takes {SEARCH_SIZE:,} at most"
            )
        return found


class OpenedCorpus(OpenedTask):
    """One whose scores hang on the references of all samples scored together."""

    def within(self, whole: Sequence[Sample]) -> Task:
        """The same for parts of a set: each sample scores what it does in the whole."""
        metric: Any = self.chosen.metric
        return replace(self, chosen=replace(self.chosen, metric=metric.within(whole)))


def with_choices(question: str, choices: Sequence[str]) -> str:
    """A question with its choices, a line each, and what the reply has to be.

    As LLaVA-1.5 asks (its conversion of MMBench and ScienceQA; arXiv 2310.03744).

    >>> print(with_choices("Which is round?", ("a box", "a ball")))
    Which is round?
    A. a box
    B. a ball
    Answer with the option's letter from the given choices directly.
    """
    lettered = zip(ascii_uppercase, choices, strict=False)
    lines = [f"{letter}. {choice}" for letter, choice in lettered]
    return "\n".join([*([question] if question else []), *lines, LETTER])


def _check_scored(task: OpenedTask) -> None:
    """Have the metric see all answers before a model is asked for replies."""
    if task.own_references:
        return
    samples, file = task.rows(), task.meant.table.file
    try:
        task.score([sample.references[0] for sample in samples], samples)
    except DataError as error:
        column = task.meant.columns.get("answers")
        raise DataError(f"column {column!r} of {file.name}: {error}") from None


def _check_apart(meant: Meant, sets: Sets) -> None:
    """Refuse sets of a file that share a picture; divided ones never do."""
    shared = shared_picture(sets)
    if shared is not None:
        first, second = shared
        column = meant.columns.of["image"]
        raise DataError(
            f"{meant.table.place(second.number, column)} has the picture of "
            f"{meant.table.unit} {first.number}, which is in another set: no picture "
            "may be in two"
        )


def _listed(noun: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{noun}{'s' * (len(names) > 1)} {', '.join(names[:MOST_NAMED])}{more}"
