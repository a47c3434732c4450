"""One trial: put an allocation in place, let the model reply, score the replies."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from allocator.core.allocation import FULL, Allocation, Choice, digest
from allocator.core.errors import BankError, SpecError
from allocator.core.ports import RERANK, Decoding
from evals.taskset import TaskSet, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from allocator.core.ports import Model, Sample, Score, State, Task
    from allocator.core.spec import Linear, ModelSpec
    from quant.bank import Bank

# samples in a batch, for models below and above SMALL parameters
BATCHES = (250, 8)
SMALL = 10**8
# inputs and features kept between trials
INPUT_BYTES = 2**29
FEATURE_BYTES = 2**28


def pick_device(name: str) -> str:
    """The device to run on.

    Raises:
        SpecError: a device that this machine lacks, or no device at all.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if has_cuda else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SpecError(f"{name!r} is no device; try auto, cpu or cuda") from None
    count = torch.cuda.device_count() if has_cuda else 0
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < count):
        return name
    raise SpecError(
        f"device {name!r} is not here: this machine has cpu"
        + (f" and {count} cuda" if count else "")
    )


def batch_size(spec: ModelSpec) -> int:
    """Samples to run at once: many for a small model, few for a large one."""
    return BATCHES[spec.parameters >= SMALL]


def describe_devices() -> list[str]:
    """Every device a search can run on, with its name and memory."""
    found = [f"cpu ({torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        gib = about.total_memory / 2**30
        found.append(f"cuda:{index} ({about.name}, {gib:.0f} GiB)")
    return found


@dataclass
class Kept:
    """Values kept by key, the longest unused dropped first beyond a size in bytes."""

    limit: int
    held: int = 0
    values: OrderedDict[Any, tuple[int, Any]] = field(default_factory=OrderedDict)

    def get(self, key: Any) -> Any:
        """The value, or None."""
        if key not in self.values:
            return None
        self.values.move_to_end(key)
        return self.values[key][1]

    def put(self, key: Any, size: int, value: Any) -> None:
        """Keep a value of a size in bytes, if it fits at all."""
        if size > self.limit or key in self.values:
            return
        self.values[key] = (size, value)
        self.held += size
        while self.held > self.limit:
            _, (freed, _) = self.values.popitem(last=False)
            self.held -= freed


@dataclass
class Workbench:
    """A loaded model whose groups take their weights from a bank, if it has one.

    What the model's prefix makes of the images depends on the bits of those components
    alone, so it is kept by the digest of those choices and reused. `beams` and `rerank`
    are those of `allocator.core.ports.Decoding`.
    """

    model: Model
    spec: ModelSpec
    task: Task | TaskSet
    bank: Bank | None = None
    beams: int = 1
    rerank: int = RERANK
    inputs: Kept = field(default_factory=lambda: Kept(INPUT_BYTES))
    features: Kept = field(default_factory=lambda: Kept(FEATURE_BYTES))

    def __post_init__(self) -> None:
        full = Allocation.uniform(self.spec, Choice(FULL))
        self.current: dict[str, Choice] = dict(full.choices)
        self.original: dict[str, Tensor] = {}
        self.references: dict[Any, Mapping[str, Score]] = {}

    @property
    def _cells(self) -> Bank:
        if self.bank is None:
            raise BankError("this model was opened without a bank: 16 bits only")
        return self.bank

    def _sum(self, linear: Linear, choice: Choice) -> str:
        return (
            str(FULL) if choice.bits == FULL else self._cells.cell_sum(linear, choice)
        )

    def _weight(self, name: str) -> Tensor:
        weight: Tensor = self.model.module.get_submodule(name).weight
        return weight

    @torch.no_grad()
    def apply(self, allocation: Allocation) -> None:
        """Put an allocation's weights in place, loading only what changes."""
        wanted = dict(allocation.choices)
        for group in self.spec.groups:
            choice = wanted[group.key]
            if choice == self.current[group.key]:
                continue
            for linear in group.linears:
                weight = self._weight(linear.name)
                if linear.name not in self.original:
                    self.original[linear.name] = weight.clone()
                low = choice.bits != FULL
                weight.copy_(
                    self._cells.weight(linear, choice)
                    if low
                    else self.original[linear.name]
                )
            self.current[group.key] = choice

    def applied(self, allocation: Allocation) -> str:
        """Digest of the cells an allocation puts in place."""
        wanted = dict(allocation.choices)
        return digest(
            [
                [linear.name, self._sum(linear, wanted[group.key])]
                for group in self.spec.groups
                for linear in group.linears
            ]
        )

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
            states = self._read(allocation, samples)
            return self.model.predict(states, samples, decoding, tick)

    def logits(self, allocation: Allocation, samples: Sequence[Sample]) -> Tensor:
        """Next-token log-probabilities behind each prompt: [samples, vocabulary]."""
        self.apply(allocation)
        last = []
        for state in self._read(allocation, samples):
            done = self._run(state, prefix=False)
            last.append(done["logits"][:, -1].float().log_softmax(-1))
        return torch.cat(last)

    def _read(
        self, allocation: Allocation, samples: Sequence[Sample]
    ) -> Iterator[State]:
        """Batches that have run through the model's prefix."""
        seen = allocation.part(self.model.prefix).digest
        size = batch_size(self.spec)
        for start in range(0, len(samples), size):
            batch = samples[start : start + size]
            name = _name(batch)
            state = self._inputs(name, batch)
            features = self.features.get((seen, name))
            if features is None:
                features = self.model.features(self._run(state, prefix=True))
                self.features.put((seen, name), _bytes(features), features)
            yield {**state, "features": features}

    def _inputs(self, name: tuple[str, ...], batch: Sequence[Sample]) -> State:
        state: State | None = self.inputs.get(name)
        if state is None:
            state = self.model.inputs(batch)
            self.inputs.put(name, _bytes(state), state)
        return state

    @torch.inference_mode()
    def _run(self, state: State, *, prefix: bool) -> State:
        """Run the stages of the prefix, or those behind it."""
        for stage in self.model.stages():
            if (stage.component in self.model.prefix) == prefix:
                state = stage.run(state)
        return state


def _name(samples: Sequence[Sample]) -> tuple[str, ...]:
    """A name for samples in a row of a task's."""
    first, last = samples[0], samples[-1]
    return first.prompt, str(first.image), first.id, last.id, str(len(samples))


def _after(before: int, tick: Callable[[int], object]) -> Callable[[int], object]:
    """Tells of samples done in a part, those of the parts before counted in."""
    return lambda here: tick(before + here)


def _bytes(values: Any) -> int:
    """Bytes of all tensors in nested values."""
    return sum(
        value.nbytes for value in tree_leaves(values) if isinstance(value, torch.Tensor)
    )


def damages(
    bench: Workbench,
    samples: Sequence[Sample],
    choices: Sequence[Choice],
    tick: Callable[[int], object] = lambda _: None,
) -> Mapping[tuple[str, Choice], float]:
    """KL to the full-precision model when one group alone gets a choice.

    Mean over samples of KL(full || quantized) of the next token behind the prompt, in
    nats. It adds up over groups only roughly: a prior, not a score.
    """
    full = Allocation.uniform(bench.spec, Choice(FULL))
    reference = bench.logits(full, samples)
    found: dict[tuple[str, Choice], float] = {}
    for key in bench.spec.keys:
        for choice in choices:
            gap = 0.0
            if choice.bits < FULL:
                other = bench.logits(full.replace({key: choice}), samples)
                gap = float((reference.exp() * (reference - other)).sum(-1).mean())
            # a rounding error may leave it just below 0
            found[key, choice] = max(0.0, gap)
            tick(len(found))
    return found
