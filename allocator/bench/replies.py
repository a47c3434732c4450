"""Replies batch by batch, those that were given before a kill among them."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from allocator.core.allocation import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from allocator.bench.halving import Halving
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
    halving: Halving

    def read(self, samples: Sequence[Sample]) -> Iterator[State]:
        """Batches in front of the language model, of what is in place, in order."""

    def plan(self, samples: Sequence[Sample]) -> list[list[int]]:
        """Places of the samples that are run together."""

    def ahead(
        self, batches: Iterable[Sequence[Sample]]
    ) -> Generator[tuple[Sequence[Sample], Callable[[], State]], None, None]:
        """Batches, and what gives the inputs of each."""

    def prefixed(self, batch: Sequence[Sample], given: State | None = None) -> State:
        """A batch, its inputs perhaps given, in front of the language model."""

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
    if task.needs != "reply":
        found = model.predict(bench.read(samples), samples, decoding, tick)
        return found, getattr(model, "cut_off", 0)
    plan, name = bench.plan(samples), ""
    replies, cut = list[Any](), 0
    if keeper is not None:
        name = name_of_replies(bench.applied(allocation), task, samples, plan)
        replies, cut = keeper.before(name)
    if replies:
        tick(len(replies))
    starts = accumulate(map(len, plan), initial=0)
    left = [own for own, at in zip(plan, starts, strict=False) if at >= len(replies)]
    batches = ([samples[place] for place in places] for places in left)
    with closing(replied(bench, batches, decoding, tick, len(replies))) as told:
        for own, lacking in told:
            replies += own
            cut += lacking
            if keeper is not None:
                keeper.tell(name, replies, cut)
    if keeper is not None:
        keeper.finished(name)
    order = [place for places in plan for place in places]
    return [reply for _, reply in sorted(zip(order, replies, strict=True))], cut


def name_of_replies(
    applied: str, task: Task, samples: Sequence[Sample], plan: Sequence[Sequence[int]]
) -> str:
    """What names the replies of some cells to samples, in the batches of a plan."""
    asked = [[sample.id, sample.prompt, sample.text] for sample in samples]
    # in batches of other sizes they were others
    return digest([applied, task.name, asked, plan])


def replied(
    bench: Bench,
    batches: Iterable[Sequence[Sample]],
    decoding: Decoding,
    tick: Callable[[int], object],
    done: int,
) -> Generator[tuple[list[Any], int], None, None]:
    """Replies of each batch, and how many of them were cut off.

    `done` are the replies before, for `tick`.
    """
    with closing(bench.ahead(batches)) as ahead:
        for batch, give in ahead:
            replies, cut = list[Any](), 0
            run = partial(_reply, bench, decoding, batch, give)
            for own, lacking in bench.halving.run(batch, run, "reply"):
                replies += own
                cut += lacking
                tick(done + len(replies))
            done += len(replies)
            yield replies, cut


def _reply(
    bench: Bench,
    decoding: Decoding,
    batch: Sequence[Sample],
    give: Callable[[], State],
    piece: Sequence[Sample],
) -> tuple[list[Any], int]:
    """Replies of a piece of a batch, and those of them that were cut off.

    `give` gives the inputs of all.
    """
    state = begun(bench, batch, give, piece)
    # who counts is told when the piece is done
    found = bench.model.predict([state], piece, decoding, lambda _: None)
    return found, getattr(bench.model, "cut_off", 0)


def begun(
    bench: Bench,
    batch: Sequence[Sample],
    give: Callable[[], State],
    piece: Sequence[Sample],
) -> State:
    """A piece of a batch in front of the language model; `give`: inputs of all."""
    return bench.prefixed(piece, give() if piece is batch else None)
