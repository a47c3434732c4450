"""Replies batch by batch, those that were given before a kill among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from allocator.core.allocation import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.core.allocation import Allocation
    from allocator.core.ports import Decoding, Model, Sample, State, Task


class Keeper(Protocol):
    """Keeps the replies of an evaluation that is under way, by its name."""

    def before(self, name: str) -> tuple[list[Any], int]:
        """Replies of whole batches that were given before, and those cut off."""

    def tell(self, name: str, replies: Sequence[Any], cut: int) -> None:
        """Be told, after each batch, all replies so far."""

    def finished(self, name: str) -> None:
        """Forget an evaluation."""


class Bench(Protocol):
    """A model in place that reads samples, and who keeps its replies."""

    model: Model
    keeper: Keeper | None

    def read(self, samples: Sequence[Sample]) -> Iterator[State]:
        """Batches in front of the language model, of what is in place."""

    def batches(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        """Samples as they are run together."""

    def applied(self, allocation: Allocation) -> str:
        """Digest of the cells that an allocation puts in place."""


def predict(
    bench: Bench,
    allocation: Allocation,
    task: Task,
    samples: Sequence[Sample],
    decoding: Decoding,
    tick: Callable[[int], object],
) -> tuple[list[Any], int]:
    """Predictions of the model that is in place, and how many replies were cut off.

    A batch is the same whatever was replied before it, so what is gone on with equals
    what was never stopped. Rankings need everything at once.
    """
    model, keeper = bench.model, bench.keeper
    if keeper is None or task.needs != "reply":
        states = bench.read(samples)
        found = model.predict(states, samples, decoding, tick)
        return found, getattr(model, "cut_off", 0)
    asked = [[sample.id, sample.prompt, sample.text] for sample in samples]
    name = digest([bench.applied(allocation), task.name, asked])
    replies, cut = keeper.before(name)
    if replies:
        tick(len(replies))
    for batch in bench.batches(samples[len(replies) :]):
        states, done = bench.read(batch), len(replies)

        def tell(here: int, done: int = done) -> None:
            tick(done + here)

        replies += model.predict(states, batch, decoding, tell)
        cut += getattr(model, "cut_off", 0)
        keeper.tell(name, replies, cut)
    keeper.finished(name)
    return replies, cut
