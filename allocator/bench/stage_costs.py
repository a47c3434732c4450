"""What quantizing takes, from one stage of each component: seconds a weight.

The stage's inputs are gathered from a few calibration samples, some rows of its weights
are quantized by every method, at all widths and at one, made up for drift, put in
place, and tuned for a few steps. A bank, a finalization and learned rounding are made
of these.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.in_place import InPlace
from allocator.bench.loading import (
    CALIBRATION_BATCHES,
    TUNED_BATCHES,
    TUNED_SAMPLES,
    recipe_of,
)
from allocator.bench.timing import timed
from allocator.core.allocation import Choice
from allocator.core.plugins import load
from allocator.core.weights import weight_of
from quant.bank import DECODED_BYTES, Bank
from quant.calibration import Observed, no_inputs, pool_, watch
from quant.cells import add_cells, packed_cell
from quant.drift import Drift
from quant.full_pass import reads_of
from quant.lru_cache import LRUCache
from quant.observing import together
from quant.streaming import Spool
from quant.tuning import Around, Tuning, tuned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from allocator.bench.prepare import Setup
    from allocator.core.ports import Method, Model, Sample, Stage, State
    from allocator.core.spec import Linear
    from quant.grid import Cell

# calibration samples of a large model, and rows of its matrices, that are worked on
FEW, ROWS = 2, 64
# the width at which one of several widths is timed
ONE = 4
# steps of two rounds of tuning: the difference is what a step takes
STEPS = (4, 8)
# batches that they are taken on, one of them to judge
LEARNED = 4
# widths between which weights are exchanged
SWAPPED = (4, 8)
# how far inputs have moved: what that takes to note does not hang on it
MOVED = 1.01


@dataclass
class StageCosts:
    """Seconds of a weight; `solve` by method, at all widths."""

    swap: float = 0.0
    gather: float = 0.0
    finalize: float = 0.0
    tune: float = 0.0
    solve: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@torch.no_grad()
def stage_costs(setup: Setup, model: Model) -> StageCosts:
    """Seconds of a weight, over all components by their weights.

    Args:
        setup: the request.
        model: at 16 bits, before and afterwards.
    """
    linears, found = setup.model.linears, StageCosts()
    for stage, states, few in _chosen(setup, model):
        names = set(stage.linears)
        own = [linear for linear in linears if linear.name in names]
        alike = [linear for linear in linears if linear.component == stage.component]
        # the stage stands for its component
        times = _weights(alike) / _weights(own) / _weights(linears)
        one = _Stage(setup, model.module, stage, states, few).costs()
        found.swap += one.swap * times
        found.gather += one.gather * times
        found.finalize += one.finalize * times
        found.tune += one.tune * times
        for name, seconds in one.solve.items():
            found.solve[name] += seconds * times
    return found


def _weights(linears: Iterable[Linear]) -> int:
    return sum(linear.weights for linear in linears)


def _chosen(
    setup: Setup, model: Model
) -> Iterator[tuple[Stage, list[State], list[State]]]:
    """Of each component its heaviest stage, with states in front of it.

    In batches as they calibrate, and in those that rounding is learned on.
    """
    sizes = {linear.name: linear.weights for linear in setup.model.linears}
    best: dict[str, tuple[int, str]] = {}
    for stage in model.stages():
        weights = sum(sizes.get(name, 0) for name in stage.linears)
        # of equals the first: less has to run in front of it
        if weights > best.get(stage.component, (0, ""))[0]:
            best[stage.component] = weights, stage.name
    is_large = setup.model.is_large
    samples = setup.samples["calibration"][: FEW if is_large else None]
    states = _inputs(model, samples, CALIBRATION_BATCHES[is_large])
    size = TUNED_BATCHES[is_large]
    few = _inputs(model, setup.samples["calibration"][: LEARNED * size], size)
    left = {name for _, name in best.values()}
    for stage in model.stages():
        if stage.name in left:
            left.remove(stage.name)
            yield stage, list(states), list(few)
        if not left:
            return
        states, few = ([stage.run(each) for each in own] for own in (states, few))


def _inputs(model: Model, samples: Sequence[Sample], size: int) -> list[State]:
    places = range(0, len(samples), size)
    return [model.inputs(samples[at : at + size], answered=True) for at in places]


# sibling sets that are looked at, and how many each of them stands for
_StandIns = list[tuple[Observed, int]]


def _stand_ins(observed: Iterable[Observed]) -> _StandIns:
    """All sets; of the experts of a stack one, that saw about as much as most."""
    alike: dict[str, list[Observed]] = {}
    for each in observed:
        alike.setdefault(each.siblings.pool or each.siblings.names[0], []).append(each)
    by_tokens = (sorted(own, key=lambda x: x.inputs.tokens) for own in alike.values())
    return [(own[len(own) // 2], len(own)) for own in by_tokens]


@dataclass
class _Stage:
    """One stage, and how long each kind of work on it takes."""

    setup: Setup
    module: Any
    stage: Stage
    states: list[State]
    few: list[State]

    def costs(self) -> StageCosts:
        """Seconds for all weights of the stage."""
        device, asked = self.setup.device, self.setup.asked
        run = sum(len(state["input_ids"]) for state in self.states)
        share = len(self.setup.samples["calibration"]) / run
        once, _ = timed(device, lambda: [self.stage.run(s) for s in self.states])
        gathering, gathered = timed(device, self._gather)
        observed = _stand_ins(gathered)
        methods = recipe_of(self.setup).methods
        solve = {
            name: self._solve(method, observed, asked.low_widths)
            for name, method in methods.items()
        }
        width = [min(asked.low_widths, key=lambda bits: abs(bits - ONE))]
        one = sum(self._solve(each, observed, width) for each in methods.values())
        adding, correcting = self._drift(observed)
        # each set reads again behind those before it, at full precision and as it is;
        # then all states pass, both
        rows = together(self.stage.siblings)
        passes = (len(rows) + 2) * once + 2 * (gathering - once)
        finalize = (passes + adding) * share + correcting + one / len(methods)
        tune = self._tune() if asked.tunes(self.setup.model.parameters) else 0.0
        tune += finalize
        return StageCosts(
            self._swap(observed), gathering * share, finalize, tune, solve
        )

    def _gather(self) -> list[Observed]:
        observed = [
            Observed(each, no_inputs(self.module, each.names[0]))
            for each in self.stage.siblings
        ]
        for state in self.states:
            watch(self.module, self.stage, observed, state)
        pool_(observed)
        return observed

    def _values(self, names: Sequence[str]) -> list[Tensor]:
        return [weight_of(self.module, name).detach() for name in names]

    def _solve(
        self, method: Method, observed: _StandIns, widths: Sequence[int]
    ) -> float:
        """Seconds of one method for all sets, from some rows of each.

        What does not depend on the rows, such as a factor, is taken once.
        """
        total = 0.0
        for one, count in observed:
            each = one.filled()
            whole = self._values(each.siblings.names)
            rows = max(map(len, whole))
            if rows <= 2 * ROWS:
                total += count * self._rows(method, each, whole, widths)
                continue
            few, twice = (
                self._rows(method, each, [w[:size] for w in whole], widths)
                for size in (ROWS, 2 * ROWS)
            )
            total += count * (few + max(0.0, twice - few) / ROWS * (rows - ROWS))
        return total

    def _rows(
        self,
        method: Method,
        observed: Observed,
        weights: Sequence[Tensor],
        widths: Sequence[int],
    ) -> float:
        foldable = observed.siblings.fold is not None
        scheme, inputs = self.setup.scheme, observed.inputs

        def solve() -> object:
            return method.quantize(weights, inputs, scheme, widths, foldable=foldable)

        return timed(self.setup.device, solve)[0]

    def _drift(self, observed: _StandIns) -> tuple[float, float]:
        """Seconds of noting how inputs have moved, and of making up for it."""
        adding = correcting = 0.0
        for one, count in observed:
            each = one.siblings
            reads = [
                read
                for state in self.states
                for read in reads_of(self.module, self.stage, each, state, None)
            ]
            if not reads:
                continue
            weights = self._values(each.names)

            def add(reads: Sequence[Tensor] = reads) -> Drift:
                drift = Drift.empty(reads[0].shape[-1], reads[0].device)
                for read in reads:
                    drift.add(MOVED * read, read)
                return drift

            def correct(drift: Drift, own: Sequence[Tensor] = weights) -> object:
                return drift.corrected(own)

            seconds, drift = timed(self.setup.device, add)
            adding += count * seconds
            correcting += count * timed(self.setup.device, partial(correct, drift))[0]
        return adding, correcting

    def _cells(self, names: Sequence[str], bits: int) -> dict[str, Cell]:
        """Cells of some linears by rounding."""
        rounding = load("quant.methods", "uniform")
        scheme = self.setup.scheme
        made = rounding.quantize(self._values(names), None, scheme, [bits])[bits]
        return dict(zip(names, made, strict=True))

    def _swap(self, observed: _StandIns) -> float:
        """Seconds of putting the stage's weights in place, their cells kept."""
        names = [name for one, _ in observed for name in one.siblings.names]
        linears, here = self.setup.model.linears, set(self.stage.linears)
        all_, own = ([x for x in linears if x.name in at] for at in (here, set(names)))
        whole = recipe_of(self.setup)
        method = next(iter(whole.methods))
        recipe = replace(whole, widths=SWAPPED, methods={method: whole.methods[method]})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for bits in SWAPPED:
                cells, key = self._cells(names, bits), recipe.key(method, bits)
                add_cells(folder, {n: {key: packed_cell(c)} for n, c in cells.items()})
            spec: Any = SimpleNamespace(linears=own)
            bank, in_place = Bank(folder, recipe, spec), InPlace(self.module, own)
            cached = 4 * _weights(self.setup.model.linears) * len(whole.keys)
            if cached > DECODED_BYTES:
                # of this stage alone all would be kept decoded
                bank.kept.decoded = LRUCache(0)

            def exchange() -> None:
                for bits in SWAPPED:
                    choice = Choice(bits, method)
                    in_place.put({linear.name: choice for linear in own}, bank)

            # what is in place is put aside once, and cells are read once
            exchange()
            seconds, _ = timed(self.setup.device, exchange)
            in_place.restore()
        return seconds / len(SWAPPED) * _weights(all_) / _weights(own)

    def _tune(self) -> float:
        """Seconds of learning the stage's rounding, from a few steps of it."""
        device, names = self.setup.device, self.stage.linears
        size = len(self.few[0]["input_ids"])
        cells, found = self._cells(names, ONE), []
        weights = dict(zip(names, self._values(names), strict=True))
        with tempfile.TemporaryDirectory() as folder:
            states, targets = Spool(Path(folder), device), Spool(Path(folder), device)
            for state in self.few:
                states.append(state)
                targets.append(self.stage.run(state))
            around = Around(states, targets, len(states))
            for steps in STEPS:
                tuning = Tuning(steps, 0, max(1, TUNED_SAMPLES // size))
                work = partial(
                    tuned, self.module, self.stage, cells, weights, around, tuning
                )
                found.append(timed(device, work)[0])
        step = max(0.0, found[1] - found[0]) / (STEPS[1] - STEPS[0])
        return found[1] + step * max(0, self.setup.asked.tune_steps - STEPS[1])
