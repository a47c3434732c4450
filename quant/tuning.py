"""Learned rounding of a stage: its cells, changed until what it gives fits better.

Behind quantized predecessors, and against what the stage gives at full precision behind
full precision, codes and ranges of all its cells are learned together
(`quant.rounding`) by signs of gradients, as in SignRound (arXiv 2309.05516). Steps grow
shorter towards the end.

Batches that neither the cells were made on nor any step sees judge them: what fits
these best is kept, the cells as they were if nothing fits better. Grids keep layout,
width and types, so whatever holds the cells still does.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from quant.grid import decode
from quant.rounding import Rates, Rounding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from allocator.core.ports import Stage, State
    from quant.grid import Cell
    from quant.streaming import Spool

# counts up whenever tuned cells change
VERSION = 1
# how far all steps together may take an offset, in codes, and an end, of itself: as in
# SignRound where each weight has its nearest code, little where codes make up for one
# another
FAR, CLOSE = Rates(offset=0.5, ends=0.3), Rates(offset=0.2, ends=0.02, momentum=0.9)
# times that cells are judged, the last one behind the last step
LOOKS = 4
# where no batch is there for judging, one in so many is held out
HELD = 4


@dataclass(frozen=True)
class Tuning:
    """How cells are tuned.

    Attributes:
        steps: for each stage; 0 changes nothing.
        seed: of the order in which batches are seen.
        batches: of calibration samples in a step.
        judges: digests of the samples that judge; none: one batch in four does.
    """

    steps: int
    seed: int = 0
    batches: int = 1
    judges: tuple[str, ...] = ()

    @property
    def described(self) -> dict[str, Any]:
        """All that tuned cells depend on beside what is tuned: plain data."""
        return {
            "version": VERSION,
            "steps": self.steps,
            "seed": self.seed,
            "batches": self.batches,
            "judges": list(self.judges),
        }

    def rates(self, step: int, reach: Rates) -> Rates:
        """Lengths of a step; those of all of them sum to what may be reached."""
        share = 2 * (self.steps - step) / (self.steps * (self.steps + 1))
        return Rates(reach.offset * share, reach.ends * share, reach.momentum)

    def looks(self) -> set[int]:
        """Counts of steps behind which cells are judged."""
        return {self.steps * look // LOOKS for look in range(1, LOOKS + 1)} - {0}

    def order(self, seen: Sequence[int]) -> Iterator[list[int]]:
        """Batches of each step: all once in an order that is drawn, and again."""
        drawn = torch.Generator().manual_seed(self.seed)
        row: list[int] = []
        for _ in range(self.steps):
            while len(row) < self.batches:
                places = torch.randperm(len(seen), generator=drawn).tolist()
                row += [seen[place] for place in places]
            yield row[: self.batches]
            del row[: self.batches]


@dataclass(frozen=True)
class Around:
    """States around a stage.

    Attributes:
        states: in front of it, behind quantized predecessors.
        targets: what it gives at full precision, behind full precision.
        calibrated: number of the first batches, those that cells were made on.
    """

    states: Spool
    targets: Spool
    calibrated: int

    @property
    def held(self) -> list[int]:
        """Numbers of the batches that judge."""
        own = range(self.calibrated, len(self.states))
        return list(own or range(HELD - 1, self.calibrated, HELD))

    @property
    def seen(self) -> list[int]:
        """Numbers of the batches that steps see."""
        return sorted({*range(self.calibrated)} - {*self.held})


@torch.no_grad()
def tuned(
    module: Any,
    stage: Stage,
    cells: Mapping[str, Cell],
    weights: Mapping[str, Tensor],
    around: Around,
    tuning: Tuning,
) -> dict[str, Cell]:
    """Cells of a stage, tuned; those that were given if none fit better.

    A stage whose outcome hides its weights from gradients is left as it is.

    Args:
        module: has what the stage uses in memory, as a checkpoint will hold it.
        stage: runs with gradients.
        cells: without AWQ scales, by full name.
        weights: what the cells stand for, [out, in] each, scales folded.
        around: the states before and behind the stage.
        tuning: how.
    """
    best = dict(cells)
    if not (cells and tuning.steps and around.seen and around.held):
        return best
    trial = _Trial(module, stage, around, tuple(cells))
    learned = {n: Rounding(cell, weights[n]) for n, cell in cells.items()}
    with trial.learning():
        trial.put([decode(cell.codes, cell) for cell in cells.values()])
        least = trial.look()
        if not any(trial.places.values()):
            return best
        trial.put([each.value() for each in learned.values()])
        for step, batches in enumerate(tuning.order(around.seen)):
            gradients = trial.gradients(batches)
            for each, gradient in zip(learned.values(), gradients, strict=True):
                reach = CLOSE if each.together else FAR
                each.step(gradient, tuning.rates(step, reach))
            trial.put([each.value() for each in learned.values()])
            if step + 1 in tuning.looks() and (error := trial.look()) < least:
                least = error
                best = {name: each.learned() for name, each in learned.items()}
    return best


@dataclass
class _Trial:
    """A stage whose weights change, and how well what it gives fits.

    `places` are those of the tensors, among the leaves of a state behind the stage,
    that depend on the weights; by batch: some families give a tensor for each image.
    """

    module: Any
    stage: Stage
    around: Around
    names: tuple[str, ...]
    parameters: list[Any] = field(init=False)
    places: dict[int, list[int]] = field(default_factory=dict)
    read: dict[int, tuple[State, list[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters = [self.module.get_submodule(n).weight for n in self.names]

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Gradients for the weights for a while; what they hold comes back."""
        before = [(each, each.data, each.requires_grad) for each in self.parameters]
        try:
            for parameter in self.parameters:
                parameter.requires_grad_(True)
            yield
        finally:
            for parameter, data, wanted in before:
                parameter.data = data
                parameter.requires_grad_(wanted)

    def put(self, values: Sequence[Tensor]) -> None:
        """Weights to run with."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.data = value.to(parameter.dtype)

    def look(self) -> float:
        """Error on what is held out, relative to what should be given."""
        found = []
        for number in self.around.held:
            # the first time gradients tell what depends on the weights
            with torch.set_grad_enabled(number not in self.places):
                found.append(self._squares(number))
        power = sum(float(own) for _, own in found)
        return sum(float(error) for error, _ in found) / power if power else 0.0

    def gradients(self, batches: Sequence[int]) -> list[Tensor]:
        """Of the summed squares of the error on some batches."""
        total = [torch.zeros_like(each.data) for each in self.parameters]
        for number in batches:
            with torch.enable_grad():
                error, _ = self._squares(number)
            found = torch.autograd.grad(error, self.parameters, allow_unused=True)
            for own, each in zip(total, found, strict=True):
                if each is not None:
                    own.add_(each)
        return total

    def _batch(self, number: int) -> tuple[State, list[Any]]:
        """A state in front of the stage, and the leaves of what it should become."""
        if number in self.read:
            return self.read[number]
        target = tree_leaves(self.around.targets[number])
        found = self.around.states[number], target
        # elsewhere each would be a copy
        if self.around.states.device.startswith("cpu"):
            self.read[number] = found
        return found

    def _squares(self, number: int) -> tuple[Tensor, Tensor]:
        """Summed squares of the error on a batch, and of what should be given.

        Padding is left out.
        """
        state, wanted = self._batch(number)
        mask = None if self.stage.mask is None else state[self.stage.mask].bool()
        given = tree_leaves(self.stage.run(state))
        if number not in self.places:
            reached = {
                id(leaf): place
                for place, leaf in enumerate(given)
                if isinstance(leaf, torch.Tensor) and leaf.requires_grad
            }
            self.places[number] = list(reached.values())
        error = power = torch.zeros((), device=self.around.states.device)
        for place in self.places[number]:
            pair = given[place], wanted[place]
            padded = mask is not None and pair[0].shape[: mask.dim()] == mask.shape
            own, target = (
                each[mask].float() if padded else each.float() for each in pair
            )
            error = error + (own - target).square().sum()
            power = power + target.square().sum()
        return error, power
