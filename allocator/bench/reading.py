"""Samples in batches, as a model reads them; inputs are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quant.lru_cache import LRUCache, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from allocator.core.ports import Model, Sample, State

# samples in a batch, for models below and above SMALL parameters
BATCHES = (250, 8)
SMALL = 10**8
# inputs kept between trials
INPUT_BYTES = 2**29
# replies that may be longer are read themselves
LONG = 16
# before the name of a batch that has its replies behind the prompts
SAID = "said"


@dataclass
class Reader:
    """Makes inputs of samples, batch by batch.

    `size` are the samples of a batch, `longest` the tokens of the longest reply that
    can score.
    """

    model: Model
    size: int
    longest: int
    kept: LRUCache = field(default_factory=lambda: LRUCache(INPUT_BYTES))

    def batches(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        """Samples that run at once."""
        for start in range(0, len(samples), self.size):
            yield samples[start : start + self.size]

    def inputs(self, batch: Sequence[Sample]) -> State:
        """Pixels and prompts of a batch."""
        return self._read(name_of(batch), batch)

    def prompted(self, batch: Sequence[Sample]) -> tuple[State, Tensor | None]:
        """Inputs of a batch, and tokens of the replies that stand behind the prompts.

        None where that does not help, and there are none.
        """
        plain = self.inputs(batch)
        is_long = self.longest > LONG
        if not is_long or not all(sample.references for sample in batch):
            return plain, None
        said = self._read((SAID, *name_of(batch)), batch, answered=True)
        count = said["attention_mask"].sum(1) - plain["attention_mask"].sum(1)
        # rankings have none, and a decoder of its own reads them elsewhere
        return (said, count) if int(count.min()) > 0 else (plain, None)

    def _read(
        self, name: tuple[str, ...], batch: Sequence[Sample], *, answered: bool = False
    ) -> State:
        state: State | None = self.kept.get(name)
        if state is None:
            state = self.model.inputs(batch, answered=answered)
            self.kept.put(name, size_of(state), state)
        return state


def batch_size(parameters: int) -> int:
    """Samples to run at once: many for a small model, few for a large one."""
    return BATCHES[parameters >= SMALL]


def name_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A name for samples in a row of a task's."""
    first, last = samples[0], samples[-1]
    return first.prompt, str(first.image), first.id, last.id, str(len(samples))
