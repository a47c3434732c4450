"""Samples in batches, as a model reads them; inputs are kept."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from allocator.bench.ahead import made_ahead
from allocator.bench.batching import Room, batched
from allocator.core.allocation import digest
from allocator.core.recurring import Recurring
from quant.lru_cache import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from torch import Tensor

    from allocator.core.ports import Model, Sample, State
    from quant.lru_cache import LRUCache

Made = TypeVar("Made")

# inputs kept between trials
INPUT_BYTES = 2**29
# replies that may be longer are read themselves
LONG = 16
# threads that make inputs beside a device, and processors that each may have
THREADS, CPUS = 4, 4
# before the name of a batch that has its replies behind the prompts
SAID = "said"


@dataclass
class Reader:
    """Makes inputs of samples, batch by batch.

    `longest` are the tokens of the longest reply that can score, `positions` those of
    a sample whose logits are read. `in_order`: batches are to follow the samples.
    `apart` are models that make inputs too, in threads of their own.
    """

    model: Model
    longest: int
    positions: int = 1
    in_order: bool = False
    apart: Sequence[Model] = ()
    kept: Recurring | LRUCache = field(default_factory=lambda: Recurring(INPUT_BYTES))

    def plan(self, samples: Sequence[Sample]) -> list[list[int]]:
        """Places of the samples that run at once, the same whenever it is asked."""
        name = ("plan", *name_of(samples))
        plan: list[list[int]] | None = self.kept.get(name)
        if plan is None:
            lengths = [n + self.longest for n in self.model.lengths(samples)]
            room = Room.of(self.model, self.inputs(samples[:1]), self.positions)
            pictures = [
                n if self.in_order else (sample.image, sample.upright)
                for n, sample in enumerate(samples)
            ]
            plan = batched(lengths, pictures, room)
            self.kept.put(name, 8 * len(samples), plan)
        return plan

    def batches(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        """Samples that run at once."""
        for places in self.plan(samples):
            yield [samples[place] for place in places]

    def ahead(
        self,
        batches: Iterable[Sequence[Sample]],
        make: Callable[[Reader, Sequence[Sample]], Made],
    ) -> Generator[tuple[Sequence[Sample], Callable[[], Made]], None, None]:
        """Batches, and what gives that which is made of each.

        Where the model runs on a device of its own, threads make it meanwhile. On a
        CPU they would only take from each other (studies/LOG.md).
        """
        if not self.apart:
            yield from ((batch, partial(make, self, batch)) for batch in batches)
            return
        makers = [partial(make, replace(self, model=m, apart=())) for m in self.apart]
        with closing(made_ahead(batches, makers)) as made:
            yield from made

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


def name_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A name for samples in a row, their number last."""
    told = [[each.prompt, str(each.image), each.id] for each in samples]
    return digest(told), str(len(samples))


def readers_beside(model: Model) -> tuple[Model, ...]:
    """Models that make inputs in threads while one runs; none beside one on a CPU."""
    if next(model.module.parameters()).device.type == "cpu":
        return ()
    count = max(1, min(THREADS, (os.cpu_count() or 1) // CPUS))
    return tuple(model.apart() for _ in range(count))
