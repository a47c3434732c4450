"""One trial: put an allocation in place, let the model reply, score the replies."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.cuts import Cuts
from allocator.bench.divergence import kl, known
from allocator.bench.forward import READ, Forward
from allocator.bench.halving import Halving
from allocator.bench.in_place import InPlace, applied_digest
from allocator.bench.reading import (
    INPUT_BYTES,
    SAID,
    Reader,
    name_of,
    readers_beside,
)
from allocator.bench.replies import begun, predict
from allocator.bench.sense import Said
from allocator.core.allocation import FULL, Allocation, Choice
from allocator.core.cost import Cost
from allocator.core.own import refers_to_itself
from allocator.core.ports import RERANK, Decoding
from allocator.core.recurring import Recurring
from evals.taskset import TaskSet, relative, tasks_of, within
from quant.finalized import Finalized
from quant.lru_cache import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from torch import Tensor

    from allocator.bench.in_place import Cells
    from allocator.bench.replies import Keeper
    from allocator.core.ports import Model, Sample, Score, State, Task
    from allocator.core.spec import ModelSpec

FULL_CHOICE = Choice(FULL)
# features kept between trials
FEATURE_BYTES = 2**28


@dataclass
class Workbench:
    """A loaded model whose groups take their weights from a bank, if it has one.

    `beams` and `rerank` are those of `allocator.core.ports.Decoding`; `keeper` keeps
    replies under way. `inputs` of batches and `features`, what stages make of them up
    to a cut, are kept; where memory does not suffice, `halving` cuts batches. What
    `under` and `over` give shares the model, what is in place, the counters in `cost`
    and what full precision gave (`references`); `said` tells, by task, of the
    predictions that were scored last. `mapped` loads the model's checkpoint once more,
    mapped: where weights at full precision come from again if the model is large.
    """

    model: Model
    spec: ModelSpec
    task: Task | TaskSet
    bank: Cells | None = None
    beams: int = 1
    rerank: int = RERANK
    keeper: Keeper | None = None
    inputs: Recurring | LRUCache = field(default_factory=lambda: Recurring(INPUT_BYTES))
    features: LRUCache = field(default_factory=lambda: LRUCache(FEATURE_BYTES))
    cost: Cost = field(default_factory=Cost)
    references: dict[Any, Any] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)
    halving: Halving = field(default_factory=Halving)
    shared: InPlace | None = None
    mapped: Callable[[], Any] | None = None

    @cached_property
    def in_place(self) -> InPlace:
        """Which weights are in place."""
        module, linears = self.model.module, self.spec.linears
        return self.shared or InPlace(module, linears, self.cost, self.mapped)

    @property
    def reader(self) -> Reader:
        """Makes inputs of samples."""
        tasks = tasks_of(self.task)
        longest = max(task.max_new_tokens for task in tasks)
        # rankings are of all samples, in their order
        in_order = any(task.needs != "reply" for task in tasks)
        return Reader(self.model, longest, READ, in_order, self.apart, self.inputs)

    @cached_property
    def apart(self) -> tuple[Model, ...]:
        """Models that make inputs in threads, beside one that runs on a device."""
        return readers_beside(self.model)

    @cached_property
    def cuts(self) -> Cuts:
        """Where what stages make of samples is kept."""
        return Cuts.of(self.model, self.spec)

    def forward(self, ahead: Allocation | None = None) -> Forward:
        """Runs the stages of what is in place, until that changes.

        `ahead` comes next, where that is known: what it can begin from is kept.
        """
        wanted = None if ahead is None else ahead.of_linears(self.spec)
        return Forward(
            self.model, self.in_place, self.cuts, self.features, self.cost, wanted
        )

    def order(self, allocation: Allocation) -> tuple[str, ...]:
        """Choices in order of execution: sorted by it, neighbours share most."""
        wanted = allocation.of_linears(self.spec)
        return tuple(str(wanted[linear.name]) for linear in self.cuts.linears)

    @cached_property
    def depths(self) -> dict[str, int]:
        """How many linears are read before the first of each group."""
        return self.cuts.depths(self.spec)

    def apply(self, allocation: Allocation) -> None:
        """Put an allocation's weights in place, loading only what changes."""
        self.in_place.put(allocation.of_linears(self.spec), self.bank)

    def restore(self) -> None:
        """Put every weight back at 16 bits, whatever was in place."""
        self.in_place.restore()

    @contextmanager
    def under(self, cells: Cells) -> Iterator[Workbench]:
        """The same model taking its weights from elsewhere; at 16 bits behind it.

        What the prefix makes of images is shared by finalized weights alone, whose
        cells tell whether it is the same: equal choices may be other weights.
        """
        self.restore()
        kept = self.features if isinstance(cells, Finalized) else LRUCache(0)
        try:
            yield self._other(bank=cells, features=kept)
        finally:
            self.restore()

    def over(self, spec: ModelSpec) -> Workbench:
        """The same bench for allocations of another grouping of the same linears."""
        return self._other(spec=spec)

    def _other(self, **changes: Any) -> Workbench:
        return replace(self, shared=self.in_place, said={}, **changes)

    def applied(self, allocation: Allocation) -> str:
        """Digest of the cells an allocation puts in place."""
        wanted = allocation.of_linears(self.spec)
        return applied_digest(self.in_place.linears, wanted, self.bank)

    def score(
        self,
        allocation: Allocation,
        samples: Sequence[Sample],
        tick: Callable[[int], object] = lambda _: None,
    ) -> Score:
        """Score an allocation on samples; `tick` is told the samples done.

        Several tasks are scored relative to full precision on the same samples.
        """
        is_full = allocation.digest == Allocation.uniform(self.spec, FULL_CHOICE).digest
        if is_full and (known := self.references.get(name_of(samples))):
            return relative(known, known)
        predictions = self.predictions(allocation, samples, tick)
        return self.score_of(allocation, predictions, samples)

    def predictions(
        self,
        allocation: Allocation,
        samples: Sequence[Sample],
        tick: Callable[[int], object] = lambda _: None,
    ) -> list[Any]:
        """What an allocation makes of each sample; tasks stand one behind the other.

        Full precision is not asked again for replies that are references.
        """
        full = Allocation.uniform(self.spec, FULL_CHOICE)
        if refers_to_itself(self.task) and allocation.digest == full.digest:
            known = [reply for each in samples for reply in each.references[:1]]
            if len(known) == len(samples):
                tick(len(known))
                return known
        if not isinstance(self.task, TaskSet):
            return self._predict(allocation, self.task, samples, tick)
        found: list[Any] = []
        for task, own in self.task.parts(samples):
            found += self._predict(allocation, task, own, _after(len(found), tick))
        return found

    def score_of(
        self,
        allocation: Allocation,
        predictions: Sequence[Any],
        samples: Sequence[Sample],
        whole: Sequence[Sample] = (),
    ) -> Score:
        """Score of an allocation's predictions, as comparable within a `whole` set.

        Where the samples are a part of one, words weigh as in all of it, and several
        tasks are scored relative to full precision on all of it.
        """
        if not isinstance(self.task, TaskSet):
            return within(self.task, whole).score(predictions, samples)
        found = self.task.scores(predictions, samples, whole)
        full = Allocation.uniform(self.spec, FULL_CHOICE)
        name, all_ = name_of(whole or samples), whole or samples
        if allocation.digest == full.digest and len(samples) == len(all_):
            self.references[name] = found
        if allocation.digest == full.digest:
            return relative(found, found)
        if name not in self.references:
            said = self.predictions(full, all_)
            self.references[name] = self.task.scores(said, all_)
        return relative(found, self.references[name])

    def _predict(
        self,
        allocation: Allocation,
        task: Task,
        samples: Sequence[Sample],
        tick: Callable[[int], object],
    ) -> list[Any]:
        self.apply(allocation)
        self.cost.scored += len(samples)
        decoding = Decoding(task.max_new_tokens, beams=self.beams, rerank=self.rerank)
        with torch.inference_mode():
            predictions, cut = predict(self, allocation, task, samples, decoding, tick)
        limit = task.max_new_tokens
        self.said[task.name] = Said.of(predictions, samples, limit, cut)
        return predictions

    def fault(self, samples: Sequence[Sample]) -> str | None:
        """What of the model at full precision is no number; None if nothing is."""
        for name, weight in self.model.module.named_parameters():
            if not bool(torch.stack(weight.aminmax()).isfinite().all()):
                return f"its weight {name} holds values that are infinite or no numbers"
        # aside: neither counted nor kept
        aside = Workbench(self.model, self.spec, self.task, halving=self.halving)
        aside.inputs = aside.features = LRUCache(0)
        full = Allocation.uniform(self.spec, FULL_CHOICE)
        bad = aside.logits(full, samples).isnan().flatten(1).any(1)
        if bool(bad.any()):
            return (
                f"its logits are no numbers for {int(bad.sum())} of {len(samples)} "
                f"samples, such as {samples[int(bad.int().argmax())].id}"
            )
        return None

    def logits(
        self,
        allocation: Allocation,
        samples: Sequence[Sample],
        ahead: Allocation | None = None,
    ) -> Tensor:
        """Next-token log-probabilities: [samples, positions, vocabulary].

        Behind each prompt. Where a task's replies are long their first token says
        little: there also behind the first tokens of the reference, its end counted
        again where it is short. `ahead` is looked at next, on the same samples, if that
        is known.
        """
        self.apply(allocation)
        self.cost.looked += len(samples)
        forward = self.forward(ahead)
        found: list[Tensor] = []
        with closing(self.reader.ahead(self.batches(samples), Reader.prompted)) as made:
            for batch, give in made:
                look = partial(self._looked, forward, batch, give)
                found += self.halving.run(batch, look, "look")
        order = [place for places in self.plan(samples) for place in places]
        return torch.cat(found)[torch.tensor(order).argsort().to(found[0].device)]

    def _looked(
        self,
        forward: Forward,
        batch: Sequence[Sample],
        give: Callable[[], tuple[State, Tensor | None]],
        piece: Sequence[Sample],
    ) -> Tensor:
        """Log-probabilities of a piece of a batch; `give` gives the inputs of all."""
        state, replied = give() if piece is batch else self.prompted(piece)
        name = name_of(piece) if replied is None else (SAID, *name_of(piece))
        return forward.logits(name, state, replied).float().log_softmax(-1)

    def plan(self, samples: Sequence[Sample]) -> list[list[int]]:
        """Places of the samples that run at once."""
        return self.reader.plan(samples)

    def batches(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        """Samples that run at once."""
        return self.reader.batches(samples)

    def prompted(self, batch: Sequence[Sample]) -> tuple[State, Tensor | None]:
        """Inputs of a batch, with replies behind the prompts where that helps."""
        return self.reader.prompted(batch)

    def divergence(
        self,
        allocation: Allocation,
        samples: Sequence[Sample],
        ahead: Allocation | None = None,
    ) -> float:
        """How far the next token is from full precision, 0 to 1.

        Mean over samples and positions of sqrt(KL(full || quantized) / 2), at most 1
        each: by Pinsker's inequality no token's probability changes by more. The root
        keeps the few that are far off from drowning all others, and so predicts a
        task's score better than the mean KL does. NaN where logits overflowed. `ahead`
        is as for `logits`.
        """
        name = ("logits", *name_of(samples))
        if name not in self.references:
            uniform = Allocation.uniform(self.spec, FULL_CHOICE)
            self.references[name] = self.logits(uniform, samples, allocation)
        full = self.references[name]
        gaps = kl(full, self.logits(allocation, samples, ahead))[known(full)]
        return float((gaps / 2).sqrt().clamp(max=1.0).mean())

    def read(self, samples: Sequence[Sample]) -> Iterator[State]:
        """Batches that have run through the model's prefix, of what is in place."""
        with closing(self.ahead(self.batches(samples))) as made:
            for batch, give in made:
                yield from self.halving.run(batch, partial(begun, self, batch, give))

    def ahead(
        self, batches: Iterable[Sequence[Sample]]
    ) -> Generator[tuple[Sequence[Sample], Callable[[], State]], None, None]:
        """Batches, and what gives the inputs of each."""
        return self.reader.ahead(batches, Reader.inputs)

    def prefixed(self, batch: Sequence[Sample], given: State | None = None) -> State:
        """A batch that has run through the model's prefix, of what is in place.

        `given` are its inputs, if there are any yet.
        """
        state = self.reader.inputs(batch) if given is None else given
        return {**state, "features": self.forward().features(name_of(batch), state)}


def _after(before: int, tick: Callable[[int], object]) -> Callable[[int], object]:
    """Tells of samples done in a part, those of the parts before counted in."""
    return lambda here: tick(before + here)
