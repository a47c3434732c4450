"""One trial: put an allocation in place, let the model reply, score the replies."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.divergence import kl, known
from allocator.bench.in_place import InPlace, applied_digest
from allocator.bench.replies import predict
from allocator.bench.sense import Said
from allocator.core.allocation import FULL, Allocation, Choice, digest
from allocator.core.ports import RERANK, Decoding
from evals.taskset import TaskSet, relative
from quant.finalized import Finalized
from quant.lru_cache import LRUCache, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from allocator.bench.in_place import Cells
    from allocator.bench.replies import Keeper
    from allocator.core.ports import Model, Sample, Score, State, Task
    from allocator.core.spec import ModelSpec

# samples in a batch, for models below and above SMALL parameters
BATCHES = (250, 8)
SMALL = 10**8
# inputs and features kept between trials
INPUT_BYTES = 2**29
FEATURE_BYTES = 2**28
# replies that may be longer are read themselves, so many of their tokens
LONG, READ = 16, 8
# before the name of a batch that has its replies behind the prompts
SAID = "said"


def batch_size(spec: ModelSpec) -> int:
    """Samples to run at once: many for a small model, few for a large one."""
    return BATCHES[spec.parameters >= SMALL]


@dataclass
class Workbench:
    """A loaded model whose groups take their weights from a bank, if it has one.

    What the components of the model's prefix make of the images depends on the choices
    up to there alone, so it is kept by the digest of those choices and reused; `ran`
    and `reused` count samples through those components. `beams` and `rerank` are those
    of `allocator.core.ports.Decoding`; `keeper` keeps replies under way. `said` tells,
    by task, of the predictions that were scored last.
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
    ran: int = 0
    reused: int = 0

    def __post_init__(self) -> None:
        self.in_place = InPlace(self.model.module, self.spec.linears)
        self.references: dict[Any, Any] = {}
        self.said: dict[str, Said] = {}

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
        other = replace(self, bank=cells, features=kept)
        other.in_place, other.references = self.in_place, self.references
        try:
            yield other
        finally:
            other.restore()
            self.ran, self.reused = other.ran, other.reused

    def over(self, spec: ModelSpec) -> Workbench:
        """The same bench for allocations of another grouping of the same linears."""
        other = replace(self, spec=spec)
        other.in_place, other.references = self.in_place, self.references
        return other

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
        name = _name(samples)
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
        aside = replace(self, inputs=LRUCache(0), features=LRUCache(0), bank=None)
        full = Allocation.uniform(self.spec, Choice(FULL))
        bad = aside.logits(full, samples).isnan().flatten(1).any(1)
        if bool(bad.any()):
            return (
                f"its logits are no numbers for {int(bad.sum())} of {len(samples)} "
                f"samples, such as {samples[int(bad.int().argmax())].id}"
            )
        return None

    def logits(self, allocation: Allocation, samples: Sequence[Sample]) -> Tensor:
        """Next-token log-probabilities: [samples, positions, vocabulary].

        Behind each prompt. Where a task's replies are long their first token says
        little: there also behind the first tokens of the reference, its end counted
        again where it is short.
        """
        self.apply(allocation)
        found = []
        for batch in self.batches(samples):
            state, replied = self.prompted(batch)
            name = _name(batch) if replied is None else (SAID, *_name(batch))
            features = self._features(allocation, name, state)
            logits = self._run({**state, "features": features})["logits"]
            found.append(next_tokens(logits, replied).float().log_softmax(-1))
        return torch.cat(found)

    def prompted(self, batch: Sequence[Sample]) -> tuple[State, Tensor | None]:
        """Inputs of a batch, and tokens of the replies that stand behind the prompts.

        None where that does not help, and there are none.
        """
        plain = self._inputs(_name(batch), batch)
        tasks = self.task.tasks if isinstance(self.task, TaskSet) else (self.task,)
        is_long = max(task.max_new_tokens for task in tasks) > LONG
        if not is_long or not all(sample.references for sample in batch):
            return plain, None
        said = self._inputs((SAID, *_name(batch)), batch, answered=True)
        count = said["attention_mask"].sum(1) - plain["attention_mask"].sum(1)
        # rankings have none, and a decoder of its own reads them elsewhere
        return (said, count) if int(count.min()) > 0 else (plain, None)

    def divergence(self, allocation: Allocation, samples: Sequence[Sample]) -> float:
        """How far the next token is from full precision, 0 to 1.

        Mean over samples and positions of sqrt(KL(full || quantized) / 2), at most 1
        each: by Pinsker's inequality no token's probability changes by more. The root
        keeps the few that are far off from drowning all others, and so predicts a
        task's score better than the mean KL does. NaN where logits overflowed.
        """
        name = ("logits", *_name(samples))
        if name not in self.references:
            uniform = Allocation.uniform(self.spec, Choice(FULL))
            self.references[name] = self.logits(uniform, samples)
        full = self.references[name]
        gaps = kl(full, self.logits(allocation, samples))[known(full)]
        return float((gaps / 2).sqrt().clamp(max=1.0).mean())

    def batches(self, samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
        """Samples that run at once."""
        size = batch_size(self.spec)
        for start in range(0, len(samples), size):
            yield samples[start : start + size]

    def read(
        self, allocation: Allocation, samples: Sequence[Sample]
    ) -> Iterator[State]:
        """Batches that have run through the model's prefix."""
        for batch in self.batches(samples):
            name = _name(batch)
            state = self._inputs(name, batch)
            yield {**state, "features": self._features(allocation, name, state)}

    def _features(
        self, allocation: Allocation, name: tuple[str, ...], state: State
    ) -> Any:
        """What the prefix makes of a batch, from the last component that is kept."""
        prefix = self.model.prefix
        # where folding rounds what has no cell, equal choices are not all there is
        cuts = [
            (self._named(allocation, prefix[:at]), self.in_place.has_changed, name)
            for at in range(1, len(prefix) + 1)
        ]
        samples = int(name[-1])
        found = self.features.get(cuts[-1])
        if found is not None:
            self.reused += samples * len(prefix)
            return found
        begin = 0
        for at in range(len(prefix) - 1, 0, -1):
            kept = self.features.get(cuts[at - 1])
            if kept is not None:
                begin, state = at, {**state, **kept}
                break
        self.reused += samples * begin
        for at in range(begin, len(prefix)):
            before, state = state, self._run(state, prefix[at])
            self.ran += samples
            if at + 1 < len(prefix):
                new = {k: v for k, v in state.items() if v is not before.get(k)}
                self.features.put(cuts[at], size_of(new), new)
        found = self.model.features(state)
        self.features.put(cuts[-1], size_of(found), found)
        return found

    def _named(self, allocation: Allocation, components: Sequence[str]) -> str:
        """Name of what the linears of some components have.

        Of a bank equal choices are equal cells. Finalized weights have others for each
        allocation, and folding has changed more than linears.
        """
        wanted, linears = allocation.of_linears(self.spec), self.in_place.linears
        own = [x for x in linears if x.component in components]
        if not isinstance(self.bank, Finalized):
            return digest([[x.name, str(wanted[x.name])] for x in own])
        stages = [s for s in self.model.stages() if s.component in components]
        uses = {name for stage in stages for name in stage.uses}
        starts = tuple(f"{name}." for name in uses)
        folded = {
            name: value
            for name, value in self.bank.changed_sums.items()
            if name in uses or name.startswith(starts)
        }
        return digest([applied_digest(own, wanted, self.bank), folded])

    def _inputs(
        self, name: tuple[str, ...], batch: Sequence[Sample], *, answered: bool = False
    ) -> State:
        state: State | None = self.inputs.get(name)
        if state is None:
            state = self.model.inputs(batch, answered=answered)
            self.inputs.put(name, size_of(state), state)
        return state

    @torch.inference_mode()
    def _run(self, state: State, component: str | None = None) -> State:
        """Run the stages of a component, or all behind the prefix."""
        for stage in self.model.stages():
            own = stage.component
            if own == component or (component is None and own not in self.model.prefix):
                state = stage.run(state)
        return state


def next_tokens(logits: Tensor, replied: Tensor | None) -> Tensor:
    """Logits of the tokens that are looked at: [samples, positions, vocabulary].

    Args:
        logits: [samples, tokens, vocabulary], padded on the left.
        replied: [samples] tokens of the replies behind the prompts; None: none.
    """
    last = torch.full((len(logits), 1), logits.shape[1] - 1)
    places = last
    if replied is not None:
        first = last - replied.cpu()[:, None]
        places = (first + torch.arange(READ)).clamp(max=logits.shape[1] - 1)
    return logits[torch.arange(len(logits))[:, None], places]


def _name(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A name for samples in a row of a task's."""
    first, last = samples[0], samples[-1]
    return first.prompt, str(first.image), first.id, last.id, str(len(samples))


def _after(before: int, tick: Callable[[int], object]) -> Callable[[int], object]:
    """Tells of samples done in a part, those of the parts before counted in."""
    return lambda here: tick(before + here)
