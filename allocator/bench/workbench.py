"""One trial: put an allocation in place, let the model reply, score the replies."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.cuts import Cuts
from allocator.bench.divergence import kl, known
from allocator.bench.forward import Forward
from allocator.bench.in_place import InPlace, applied_digest
from allocator.bench.reading import INPUT_BYTES, SAID, Reader, batch_size, name_of
from allocator.bench.replies import predict
from allocator.bench.sense import Said
from allocator.core.allocation import FULL, Allocation, Choice
from allocator.core.cost import Cost
from allocator.core.ports import RERANK, Decoding
from evals.taskset import TaskSet, relative
from quant.finalized import Finalized
from quant.lru_cache import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from allocator.bench.in_place import Cells
    from allocator.bench.replies import Keeper
    from allocator.core.ports import Model, Sample, Score, State, Task
    from allocator.core.spec import ModelSpec

# features kept between trials
FEATURE_BYTES = 2**28


@dataclass
class Workbench:
    """A loaded model whose groups take their weights from a bank, if it has one.

    `beams` and `rerank` are those of `allocator.core.ports.Decoding`; `keeper` keeps
    replies under way. `inputs` of batches and `features`, what stages make of them up
    to a cut, are kept. What `under` and `over` give shares the model, what is in place,
    the counters in `cost` and what full precision gave (`references`); `said` tells, by
    task, of the predictions that were scored last.
    """

    model: Model
    spec: ModelSpec
    task: Task | TaskSet
    bank: Cells | None = None
    beams: int = 1
    rerank: int = RERANK
    keeper: Keeper | None = None
    inputs: LRUCache = field(default_factory=lambda: LRUCache(INPUT_BYTES))
    features: LRUCache = field(default_factory=lambda: LRUCache(FEATURE_BYTES))
    cost: Cost = field(default_factory=Cost)
    references: dict[Any, Any] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)
    shared: InPlace | None = None

    @cached_property
    def in_place(self) -> InPlace:
        """Which weights are in place."""
        return self.shared or InPlace(self.model.module, self.spec.linears)

    @property
    def reader(self) -> Reader:
        """Makes inputs of samples."""
        tasks = self.task.tasks if isinstance(self.task, TaskSet) else (self.task,)
        longest = max(task.max_new_tokens for task in tasks)
        size = batch_size(self.spec.parameters)
        return Reader(self.model, size, longest, self.inputs)

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

    def depth(self, key: str) -> int:
        """How many linears are read before the first of a group."""
        own = next(group.linears for group in self.spec.groups if group.key == key)
        return min(map(self.cuts.linears.index, own))

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
        if not isinstance(self.task, TaskSet):
            predictions = self._predict(allocation, self.task, samples, tick)
            return self.task.score(predictions, samples)
        full = Allocation.uniform(self.spec, Choice(FULL))
        name = name_of(samples)
        if name not in self.references:
            self.references[name] = self._scores(full, self.task, samples, tick)
        found = self.references[name]
        if allocation.digest != full.digest:
            found = self._scores(allocation, self.task, samples, tick)
        return relative(found, self.references[name])

    def _scores(
        self,
        allocation: Allocation,
        tasks: TaskSet,
        samples: Sequence[Sample],
        tick: Callable[[int], object],
    ) -> dict[str, Score]:
        """Scores of a set's tasks, by name."""
        found: dict[str, Score] = {}
        done = 0
        for task, own in tasks.parts(samples):
            predictions = self._predict(allocation, task, own, _after(done, tick))
            found[task.name] = task.score(predictions, own)
            done += len(own)
        return found

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
            if not bool(torch.isfinite(weight).all()):
                return f"its weight {name} holds values that are infinite or no numbers"
        # aside: neither counted nor kept
        aside = Workbench(self.model, self.spec, self.task)
        aside.inputs = aside.features = LRUCache(0)
        full = Allocation.uniform(self.spec, Choice(FULL))
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
        found = []
        for batch in self.batches(samples):
            state, replied = self.prompted(batch)
            name = name_of(batch) if replied is None else (SAID, *name_of(batch))
            logits = forward.logits(name, state, replied)
            found.append(logits.float().log_softmax(-1))
        return torch.cat(found)

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
            uniform = Allocation.uniform(self.spec, Choice(FULL))
            self.references[name] = self.logits(uniform, samples, allocation)
        full = self.references[name]
        gaps = kl(full, self.logits(allocation, samples, ahead))[known(full)]
        return float((gaps / 2).sqrt().clamp(max=1.0).mean())

    def read(self, samples: Sequence[Sample]) -> Iterator[State]:
        """Batches that have run through the model's prefix, of what is in place."""
        forward = self.forward()
        for batch in self.batches(samples):
            state = self.reader.inputs(batch)
            yield {**state, "features": forward.features(name_of(batch), state)}


def _after(before: int, tick: Callable[[int], object]) -> Callable[[int], object]:
    """Tells of samples done in a part, those of the parts before counted in."""
    return lambda here: tick(before + here)
