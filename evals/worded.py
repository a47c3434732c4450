"""A task in other words: what is asked in place of its own, how long a reply may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.own import summary_of
from allocator.core.prompts import PLACES, check_prompt, filled, places, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.own import Summary
    from allocator.core.ports import Prediction, Sample, Score, Selection, Split

# what a family asks of a picture alone; decoding may go by it
CAPTION = "caption"


@dataclass(frozen=True)
class Worded:
    """A task whose prompt, or whose longest reply, somebody has set.

    All else is the task's own. What is asked stands where the words of a family would:
    the picture has its place, and a chat template stays around both.

    Raises:
        SpecError: a task that asks nothing; a prompt that cannot be meant, or that has
            a place for a question where there is none, or none where there is one.
    """

    task: Any
    prompt: str | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        if self.needs != "reply":
            raise SpecError(f"{self.name} asks nothing: it takes no prompt or length")
        if self.prompt is not None:
            check_prompt(self.prompt)
        # before any file is read, where the task shows what it asks
        _ = self.examples

    def __getattr__(self, name: str) -> Any:
        # `task` itself is looked for here while a copy is made
        if name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)

    @property
    def name(self) -> str:
        """The task's."""
        return str(self.task.name)

    @property
    def metric(self) -> str:
        """The task's."""
        return str(self.task.metric)

    @property
    def version(self) -> int:
        """The task's: other words are other samples."""
        return int(self.task.version)

    @property
    def needs(self) -> Prediction:
        """The task's."""
        found: Prediction = self.task.needs
        return found

    @property
    def subsets(self) -> tuple[str, ...]:
        """The task's."""
        return tuple(self.task.subsets)

    @property
    def examples(self) -> tuple[Sample, ...]:
        """The task's, in these words."""
        return tuple(map(self._asked, self.task.examples))

    @property
    def max_new_tokens(self) -> int:
        """Longest reply that can score."""
        return self.longest or int(self.task.max_new_tokens)

    @property
    def summary(self) -> Summary | None:
        """What the task says of a user's own file; None: it is of none."""
        found = summary_of(self.task)
        return found and replace(found, longest=self.max_new_tokens)

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """The task's samples, in these words.

        Raises:
            DataError: as the task does.
            SpecError: a sample whose question has no place in the prompt, or that has
                none for the place; names it.
        """
        found = self.task.samples(data, split, selection)
        return tuple(self._asked(each, f" of sample {each.id}") for each in found)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """As the task scores."""
        found: Score = self.task.score(predictions, samples)
        return found

    def _asked(self, sample: Sample, where: str = "") -> Sample:
        prompt, question = self.prompt, sample.text
        if prompt is None:
            return sample
        if bool(question) != bool(places(prompt)):
            has, asks = ("no", "one") if question else ("a", "none")
            raise SpecError(
                f"the prompt {shown(prompt)} has {has} place for the question "
                f"({PLACES[-1]}), and {self.name} asks {asks}{where}"
            )
        kind = CAPTION if sample.prompt == CAPTION else "plain"
        return replace(sample, prompt=kind, text=filled(prompt, question))
