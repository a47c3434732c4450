"""A task in other words: what is asked in place of its own, how long a reply may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.ports import Prediction, Sample, Score, Selection, Split

PLACE = "{question}"


@dataclass(frozen=True)
class Worded:
    """A task whose prompt, or whose longest reply, somebody has set.

    All else is the task's own. Prompts are of the kind "plain": a chat template stays
    around them.

    Raises:
        SpecError: a prompt for what does not reply, an empty one, or one with other
            than one place for the question.
    """

    task: Any
    prompt: str | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        if self.needs != "reply":
            raise SpecError(f"{self.name} asks nothing: it takes no prompt or length")
        prompt = self.prompt
        if prompt is not None and (not prompt.strip() or prompt.count(PLACE) > 1):
            raise SpecError(
                f"a prompt is a text with {PLACE} in it once, not {prompt!r}"
            )

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

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """The task's samples, in these words.

        Raises:
            DataError: as the task does.
            SpecError: a question has no place in the prompt.
        """
        return tuple(map(self._asked, self.task.samples(data, split, selection)))

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """As the task scores."""
        found: Score = self.task.score(predictions, samples)
        return found

    def _asked(self, sample: Sample) -> Sample:
        if self.prompt is None:
            return sample
        if sample.text and PLACE not in self.prompt:
            raise SpecError(
                f"the prompt {self.prompt!r} has no {PLACE}, and {self.name} asks one "
                "of each picture"
            )
        text = self.prompt.replace(PLACE, sample.text)
        return replace(sample, prompt="plain", text=text)
