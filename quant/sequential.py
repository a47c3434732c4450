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

The first set is the bank's. A head that shares its matrix with the embeddings comes
last: until then the embeddings count at full precision.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import linear_bytes
from allocator.core.errors import BankError, ModelError
from quant.bank import MANIFEST
from quant.calibration import Observed, no_inputs, watch
from quant.cells import SUFFIX, add_cells, file_of, packed_cell, read_cell
from quant.drift import Drift
from quant.files import DRAFT, locked
from quant.finalized import Finalized, write_manifest
from quant.folding import FoldError, Folds, common, divided
from quant.grid import decode, scale_dtype
from quant.hessian import InputStatistics
from quant.streaming import SPOOLED, Spool, in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from allocator.core.allocation import Choice
    from allocator.core.ports import Model, Siblings, Stage, State
    from allocator.core.spec import Linear
    from quant.build import Source
    from quant.finalized import Assignment
    from quant.grid import Cell

CLAIM = ".claim"


def quantize_in_sequence(
    root: Path,
    wanted: Assignment,
    linears: Sequence[Linear],
    source: Source,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> Finalized:
    """Make finalized weights, or open those that are there.

    What is damaged, or was left by a run that died, is made anew from the start. Two
    processes never make the same: the second waits.

    Args:
        root: where finalized weights are kept; the folder is `root / wanted.digest`.
        wanted: what each linear is to become.
        linears: all those of the model.
        source: the model and its calibration inputs.
        progress: is told the linears done and wanted.

    Raises:
        BankError: the disk has, or turns out to have, too little room.
        ModelError: a linear whose weights or activations are not finite.
    """
    folder = root / wanted.digest
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / CLAIM):
        try:
            return Finalized.open(folder)
        except BankError:
            _clear(folder)
        _check_room(folder, wanted, linears)
        changed: dict[str, Tensor] = {}
        if wanted.keys:
            model = source.model()
            full, states = (Spool(folder, source.device) for _ in range(2))
            for state in source.batches(model):
                states.append(state)
                if wanted.corrected:
                    full.append(state)
            changed = _Sequence(folder, wanted, model, full, states, progress).run()
        write_manifest(folder, wanted, changed)
        return Finalized.open(folder)


def _clear(folder: Path) -> None:
    """Take away whatever there is, the manifest first: it says that all is there."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for pattern in (f"*{SUFFIX}", f"{DRAFT}*", f"{SPOOLED}*"):
        for file in folder.glob(pattern):
            file.unlink()


def _check_room(folder: Path, wanted: Assignment, linears: Sequence[Linear]) -> None:
    """Refuse what does not fit on the disk."""
    scheme = wanted.recipe.scheme
    needed = sum(
        # a norm that AWQ's scale folds into has a 16-bit number for each input
        linear_bytes(linear, scheme, wanted.choices[linear.name].bits, "none")
        + 2 * linear.in_features
        for linear in linears
        if linear.name in wanted.keys
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BankError(
            f"the finalized weights take {needed / 1e9:,.1f} GB and {folder.parent} "
            f"has {free / 1e9:,.1f} GB free: free some, or let XDG_DATA_HOME name a "
            "larger disk"
        )


@dataclass
class _Sequence:
    """One pass over the stages, on states as they were and as they have become.

    `made` are the names of all cells so far, by linear, and `held` the weights of the
    stage that is worked on. `folds` has what scales have changed.
    """

    folder: Path
    wanted: Assignment
    model: Model
    full: Spool
    states: Spool
    progress: Callable[[int, int], object]
    made: dict[str, str] = field(default_factory=dict)
    held: dict[str, Tensor] = field(default_factory=dict)
    folds: Folds = field(init=False)

    def __post_init__(self) -> None:
        named = self.model.module.named_parameters(remove_duplicate=False)
        self.folds = Folds(dict(named), scale_dtype(self.wanted.recipe.scheme))

    @torch.no_grad()
    def run(self) -> dict[str, Tensor]:
        """Quantize what is wanted, up to the last stage that has any of it.

        Returns:
            Parameters that folding changed, by full name.
        """
        stages, keys = self.model.stages(), self.wanted.keys
        self.progress(0, len(keys))
        last = max(at for at, s in enumerate(stages) if keys.keys() & set(s.linears))
        for at, stage in enumerate(stages[: last + 1]):
            for siblings in stage.siblings:
                if keys.keys() & set(siblings.names):
                    self._solve(*self._observe(stage, siblings))
            if at < last:
                self._pass_on(stage)
            self.held.clear()
        return self.folds.changed

    def _loaded(self, stage: Stage) -> AbstractContextManager[None]:
        return in_memory(self.model.module, stage.uses, self.states.device)

    def _pass_on(self, stage: Stage) -> None:
        """Take all states behind a stage."""
        with self._loaded(stage):
            for n in range(len(self.states)):
                if self.wanted.corrected:
                    self.full[n] = stage.run(self.full[n])
                with self._placed(stage):
                    self.states[n] = stage.run(self.states[n])

    def _observe(self, stage: Stage, siblings: Siblings) -> tuple[Observed, Drift]:
        """What a sibling set reads, and how far that has moved."""
        with self._loaded(stage):
            layer: Any = self.model.module.get_submodule(siblings.names[0])
            observed = Observed(siblings, no_inputs(layer))
            drift = Drift.empty(layer.weight.shape[1], layer.weight.device)
            for n in range(len(self.states)):
                with self._placed(stage):
                    now = self._reads(stage, siblings, self.states[n])
                for read in now:
                    observed.inputs.add(read)
                if self.wanted.corrected:
                    before = self._reads(stage, siblings, self.full[n])
                    for full, read in zip(before, now, strict=True):
                        drift.add(full, read)
        return observed, drift

    def _reads(self, stage: Stage, siblings: Siblings, state: State) -> list[Tensor]:
        """Inputs of a sibling set on one batch, without padding: [n, in] each."""
        seen = _Seen.nothing()
        watch(self.model.module, stage, [Observed(siblings, seen)], state)
        return seen.reads

    @contextmanager
    def _placed(self, stage: Stage) -> Iterator[None]:
        """What a checkpoint will hold in place of what a loaded stage uses."""
        module: Any = self.model.module
        used = _parameters(module, stage.uses)
        before: list[tuple[Tensor, Tensor]] = []
        try:
            for key in (*self.folds.changed, *(f"{name}.weight" for name in self.made)):
                parameter = module.get_parameter(key)
                if id(parameter) in used:
                    before.append((parameter, parameter.data))
                    parameter.data = self._value(key).to(parameter)
            yield
        finally:
            for parameter, data in before:
                parameter.data = data

    def _value(self, key: str) -> Tensor:
        """What a parameter has become, by full name."""
        if key in self.folds.changed:
            return self.folds.changed[key]
        return self._weight(key.removesuffix(".weight"))

    def _weight(self, name: str) -> Tensor:
        if name not in self.held:
            self.held[name] = _decoded(self._cell(name))
        return self.held[name]

    def _cell(self, name: str) -> Cell:
        return read_cell(file_of(self.folder, name), self.made[name])

    def _solve(self, observed: Observed, drift: Drift) -> None:
        """Quantize a sibling set, each linear as it was given."""
        module, device = self.model.module, self.states.device
        siblings = observed.siblings.names
        weights = [module.get_submodule(n).weight.detach().to(device) for n in siblings]
        try:
            observed.inputs.check(weights)
            if self.wanted.corrected:
                weights = drift.corrected(weights)
            try:
                cells = self._folded(observed.siblings, self._cells(weights, observed))
            except FoldError:
                unfoldable = replace(observed.siblings, fold=None)
                cells = self._cells(weights, replace(observed, siblings=unfoldable))
        except ModelError as error:
            raise ModelError(f"{', '.join(siblings)}: {error}") from None
        keys = self.wanted.keys
        add_cells(self.folder, {n: {keys[n]: packed_cell(c)} for n, c in cells.items()})
        self.held |= {name: _decoded(cell) for name, cell in cells.items()}
        self.made |= {name: keys[name] for name in cells}
        self.progress(len(self.made), len(keys))

    def _cells(self, weights: Sequence[Tensor], observed: Observed) -> dict[str, Cell]:
        """Cells of those siblings that get one, mostly by one choice for all."""
        choices, siblings = self.wanted.choices, observed.siblings.names
        names = [name for name in siblings if name in self.wanted.keys]
        found: dict[str, Cell] = {}
        for choice in dict.fromkeys(choices[name] for name in names):
            cells = self._quantize(choice, weights, observed)
            found |= {
                name: cell
                for name, cell in zip(siblings, cells, strict=True)
                if choices.get(name) == choice
            }
        return found

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
        self.folds.add(siblings, scale, self.wanted.keys)
        return found

    def _quantize(
        self, choice: Choice, weights: Sequence[Tensor], observed: Observed
    ) -> Sequence[Any]:
        """Cells of a sibling set at one choice, as a bank makes them."""
        assert choice.method is not None
        recipe = self.wanted.recipe
        foldable = observed.siblings.fold is not None
        cells = recipe.methods[choice.method].quantize(
            weights, observed.inputs, recipe.scheme, [choice.bits], foldable=foldable
        )
        return cells[choice.bits]


def _decoded(cell: Cell) -> Tensor:
    """Weights of a cell without a scale: [out, in] float32."""
    return decode(cell.codes, cell)


@dataclass(eq=False)
class _Seen(InputStatistics):
    """Keeps inputs as they come, in place of their statistics."""

    reads: list[Tensor] = field(default_factory=list)

    @staticmethod
    def nothing() -> _Seen:
        """Of no inputs at all."""
        return _Seen(torch.empty(0), torch.empty(0))

    def add(self, x: Tensor) -> None:
        """Keep a batch [..., in]."""
        self.reads.append(x.reshape(-1, x.shape[-1]).clone())


def _parameters(module: Any, uses: Sequence[str]) -> set[int]:
    """Identities of the parameters below some names; tied ones by each of theirs."""
    starts = tuple(f"{name}." for name in uses)
    named = module.named_parameters(remove_duplicate=False)
    return {id(p) for name, p in named if name in uses or name.startswith(starts)}
