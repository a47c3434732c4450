"""Quantize one allocation in sequence: each linear reads quantized predecessors.

A bank calibrates every cell on full-precision inputs, so that any cells go together.
Once an allocation is chosen, what a linear will read is known: stage by stage, and
within a stage sibling set by sibling set, inputs are collected behind what is already
quantized (GPTQ, arXiv 2210.17323, section 4; auto-gptq's `true_sequential`). What those
inputs have lost, weights make up for before they are quantized (`quant.drift`).

A scale of AWQ is folded as soon as its set is solved (`quant.folding`), so that
whatever follows reads what a checkpoint will hold. It folds into what comes before in
the same stage: a norm, or a linear that has its cell already, whose grid then changes.
Where it does not fold, the set is quantized without one, and only clipped: no
checkpoint could hold what was measured.

A stage is finished before its cells are written, so whatever else is done to them can
look at all of them, at the states in front of it and at what full precision gives
behind it. Where an earlier result begins alike, its cells and states are taken over
(`quant.passes`).

The first set is the bank's. A head that shares its matrix with the embeddings comes
last: until then the embeddings count at full precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from allocator.core.errors import BankError, ModelError
from allocator.core.weights import slice_of, weight_of
from quant.cells import add_cells, file_of, packed_cell, read_cell
from quant.files import locked
from quant.finalized import Finalized, write_manifest
from quant.folding import FoldError, Folds, common, divided
from quant.full_pass import FullPass
from quant.grid import decode, scale_dtype
from quant.observing import Observing, together
from quant.passes import Passes, all_states, beginnings, calibrated, lend
from quant.pieces import enough_memory
from quant.placed import Placed
from quant.room import CLAIM, check_finalized
from quant.solving import cells_of
from quant.streaming import Spool, in_memory
from quant.tuning import Around, tuned
from quant.underway import Underway, forget_underway, saying_what_is_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Model, Siblings, Stage
    from allocator.core.spec import Linear
    from quant.assignment import Assignment
    from quant.build import Source
    from quant.calibration import Observed
    from quant.drift import Drift
    from quant.grid import Cell


def quantize_in_sequence(
    root: Path,
    wanted: Assignment,
    linears: Sequence[Linear],
    source: Source,
    progress: Callable[[int, int], object] = lambda *_: None,
    passes: Passes | None = None,
) -> Finalized:
    """Make finalized weights, or open those that are there.

    What is damaged is made anew from the start; what a run that died has left is gone
    on with, from the stage that it was at. Two processes never make the same: the
    second waits.

    Args:
        root: where finalized weights are kept; the folder is `root / wanted.digest`.
        wanted: what each linear is to become.
        linears: all those of the model.
        source: the model and its calibration inputs.
        progress: is told the linears done and wanted.
        passes: what earlier calls have left for this one; changes no number.

    Raises:
        BankError: the disk has too little room.
        FullError: it turns out to have; finished stages are kept.
        ModelError: a linear whose weights or activations are not finite.
    """
    folder, passes = root / wanted.digest, passes or Passes(0)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / CLAIM):
        try:
            found = Finalized.open(folder)
        except BankError:
            begun = Underway.of(folder, wanted)
            left = [linear for linear in linears if linear.name not in begun.keys]
            check_finalized(folder, wanted, left)
            changed: dict[str, Tensor] = {}
            with saying_what_is_needed(folder, wanted, left):
                if wanted.keys:
                    sequence = _Sequence.of(folder, wanted, source, passes, progress)
                    changed = sequence.run(begun)
                found = write_manifest(folder, wanted, changed)
            forget_underway(folder)
        passes.add(wanted, found)
        return found


@dataclass
class _Sequence:
    """One pass over the stages, on states as they were and as they have become.

    `made` are the names of all cells so far, by linear, `cells` those of the stage that
    is worked on, and `placed` what is in place there. `folds` has what scales have
    changed. Without a `full` nothing is made up for.
    """

    folder: Path
    wanted: Assignment
    keys: Mapping[str, str]
    model: Model
    source: Source
    states: Spool
    passes: Passes
    progress: Callable[[int, int], object]
    folds: Folds
    placed: Placed
    underway: Underway
    full: FullPass | None = None
    made: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)

    @staticmethod
    def of(
        folder: Path,
        wanted: Assignment,
        source: Source,
        passes: Passes,
        progress: Callable[[int, int], object],
    ) -> _Sequence:
        """A pass that has yet to begin."""
        model = passes.model(wanted.recipe, source)
        placed = Placed.of(model.module)
        exact = {name: each.detach() for name, each in placed.parameters.items()}
        for name in (n for stage in model.stages() for n in stage.linears):
            # an expert's goes by the name that one of its own would have
            exact[f"{name}.weight"] = weight_of(model.module, name).detach()
        folds = Folds(exact, scale_dtype(wanted.recipe.scheme))
        full, states = (Spool(folder, source.device) for _ in range(2))
        own = folder, wanted, wanted.keys, model, source, states, passes, progress
        sequence = _Sequence(*own, folds, placed, Underway(folder))
        if wanted.corrected or wanted.tune:
            name = calibrated(wanted.recipe, source)
            sequence.full = FullPass(model.module, full, passes, name, placed.aside)
        return sequence

    @torch.no_grad()
    def run(self, begun: Underway) -> dict[str, Tensor]:
        """Quantize what is wanted, up to the last stage that has any of it.

        Args:
            begun: what is done.

        Returns:
            Parameters that folding changed, by full name.
        """
        stages, keys = self.model.stages(), self.keys
        self.progress(0, len(keys))
        last = max(at for at, s in enumerate(stages) if keys.keys() & set(s.linears))
        names = beginnings(self.wanted, stages[:last])
        taken = self._go_on(begun) or self._take_over(stages, last)
        for at in range(self._start(names, taken), last + 1):
            behind = names[at + 1] if at < last else None
            what = f"quantizing {stages[at].name} in sequence"
            with enough_memory(what, self.states.device):
                self._pass(at, stages[at], behind, known=at < taken)
        return self.folds.changed

    def _go_on(self, begun: Underway) -> int:
        """Take what a run that died has done: of how many stages."""
        self.underway = begun
        self.made, self.folds.changed = dict(begun.keys), dict(begun.changed)
        if begun.stages:
            self.progress(len(self.made), len(self.keys))
        return begun.stages

    def _take_over(self, stages: Sequence[Stage], most: int) -> int:
        """Take cells from an earlier result that begins alike: of how many stages."""
        for count, result in self.passes.earlier(self.wanted, stages, most):
            sets = [s for stage in stages[:count] for s in stage.siblings]
            keys = {n: self.keys[n] for s in sets for n in s.names if n in self.keys}
            changed = lend(result, keys, self.folder)
            if changed is not None:
                touched = {name for s in sets for name in (*s.names, s.fold)}
                self.folds.changed = {
                    key: value
                    for key, value in changed.items()
                    if key.rpartition(".")[0] in touched
                }
                self.made = keys
                self.progress(len(self.made), len(self.keys))
                return count
        return 0

    def _start(self, names: Sequence[str], most: int) -> int:
        """Fill in the states in front of a stage: of the last one they are kept of."""
        full, pairs = self.full, None
        for at in range(most, -1, -1):
            states = self.passes.get(names[at])
            exact = full.kept(at) if full else states
            if states is not None and exact is not None:
                pairs = list(zip(states, exact, strict=True))
                break
        for now, before in pairs or ((x, x) for x in self.source.batches(self.model)):
            self.states.append(now)
            if full:
                full.states.append(before)
        self.passes.put(all_states(self.states), names[at])
        if full:
            full.keep(at)
        return at

    def _pass(self, at: int, stage: Stage, behind: str | None, *, known: bool) -> None:
        """Quantize what is wanted of a stage, and take all states behind it.

        Args:
            at: the stage's number.
            stage: it.
            behind: name of the states behind; None where nobody reads them.
            known: its cells are there.
        """
        module, device = self.model.module, self.states.device
        with in_memory(module, stage.uses, device) as self.placed.loaded:
            if self.full and not known:
                self.full.enter(at, stage)
            self._place(self.folds.changed, self.made)
            if not known:
                self._quantize(stage)
            if self.full and (behind or self.wanted.tune):
                self.full.leave(at, stage)
                self._tune(stage)
            self._write()
            if behind and not known:
                changed = self.folds.changed
                self.underway = self.underway.after(at + 1, self.made, changed)
                self.underway.keep(self.wanted.digest)
            if behind:
                for n in range(len(self.states)):
                    self.states[n] = stage.run(self.states[n])
                self.passes.put(all_states(self.states), behind)
        self.placed.own.clear()

    def _quantize(self, stage: Stage) -> None:
        """Quantize what is wanted of a stage, one sibling set behind the other."""
        seen = len(self.states) - self.source.judging
        around = (self.states, seen, self.full, self.folder)
        observing = Observing(self.model.module, stage, *around)
        for row in together(stage.siblings):
            wanted = [s for s in row if self.keys.keys() & set(s.names)]
            for observed, drift in observing.observed(row, wanted):
                self._solve(observed, drift)

    def _tune(self, stage: Stage) -> None:
        """Learn the cells of the stage that is worked on, if that is wanted.

        Those of experts stay as they are: what learning holds of each weight would be
        several times the block in memory, and each of them sees a few tokens of a step.
        """
        module = self.model.module
        cells = {n: c for n, c in self.cells.items() if slice_of(module, n) is None}
        if self.full and self.wanted.tune and cells:
            to = self.states.device
            weights = {name: self.folds.weight(name).to(to) for name in cells}
            seen = len(self.states) - self.source.judging
            around = Around(self.states, self.full.states, seen)
            learned = tuned(module, stage, cells, weights, around, self.wanted.tune)
            self.cells |= learned
            self._place((), learned)

    def _place(self, changed: Iterable[str], names: Iterable[str]) -> None:
        """Put what a checkpoint will hold in place of what a loaded stage uses."""
        for key in changed:
            if self.placed.has(key):
                self.placed.put(key, self.folds.changed[key])
        for name in names:
            if self.placed.has(self.placed.key(name)):
                cell = self._cell(name)
                self.placed.put_weight(name, decode(cell.codes, cell))

    def _cell(self, name: str) -> Cell:
        if name in self.cells:
            return self.cells[name]
        return read_cell(file_of(self.folder, name), self.made[name])

    def _solve(self, observed: Observed, drift: Drift) -> None:
        """Quantize a sibling set, each linear as it was given."""
        siblings, device = observed.siblings.names, self.states.device
        exact = self.folds.parameters
        weights = [exact[f"{name}.weight"].to(device) for name in siblings]
        before = dict(self.folds.changed)
        try:
            observed.inputs.check(weights)
            if self.wanted.corrected:
                weights = drift.corrected(weights)
            try:
                cells = self._folded(
                    observed.siblings, cells_of(self.wanted, weights, observed)
                )
            except FoldError:
                unfoldable = replace(observed.siblings, fold=None)
                cells = cells_of(
                    self.wanted, weights, replace(observed, siblings=unfoldable)
                )
        except ModelError as error:
            raise ModelError(f"{', '.join(siblings)}: {error}") from None
        self.cells |= cells
        self.made |= {name: self.keys[name] for name in cells}
        changed = self.folds.changed
        new = {k: v for k, v in changed.items() if v is not before.get(k)}
        self._place(new, cells)
        self.progress(len(self.made), len(self.keys))

    def _write(self) -> None:
        """Write the cells of the stage that is worked on."""
        packed = {n: {self.keys[n]: packed_cell(c)} for n, c in self.cells.items()}
        if packed:
            add_cells(self.folder, packed)
        self.passes.stages += bool(packed)
        self.cells.clear()

    def _folded(self, siblings: Siblings, cells: Mapping[str, Cell]) -> dict[str, Cell]:
        """Cells without their scale, and with that of what it folds into.

        Raises:
            FoldError: the scale does not fold; nothing has changed.
        """
        scale = common({name: cell.channel_scale for name, cell in cells.items()})
        if scale is None:
            return dict(cells)
        found = {
            name: replace(cell, channel_scale=None) for name, cell in cells.items()
        }
        fold = siblings.fold
        if fold in self.made:
            found[fold] = divided(fold, self._cell(fold), scale)
        self.folds.add(siblings, scale, self.keys)
        return found
