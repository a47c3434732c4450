"""Make what is missing of a bank: streamed, shared between processes, never twice.

A pass runs the model stage by stage. Of each stage that lacks cells, and that no other
process has claimed, it solves one sibling set after the other, by all methods, and then
writes the files of the set, each once: what is written is never made again. Of cells
that are not stored, descriptions are written; where nothing else is missing, no stage
has to run.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from allocator.core.drafts import DRAFT, clear_drafts
from allocator.core.errors import FullError, ModelError
from allocator.core.full import full
from allocator.core.ports import is_stored
from allocator.core.weights import weight_of as view_of
from quant.bank import about, missing_cells, write_manifest
from quant.calibration import calibrate
from quant.cells import add_cells, packed_cell
from quant.files import claimed
from quant.needs import missing_bytes
from quant.pieces import Widths, enough_memory
from quant.pooling import FED, fed_manifest, keep_fed
from quant.room import check_bank
from quant.streaming import SPOOLED, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Model, Siblings, Stage, State
    from allocator.core.spec import Linear
    from quant.bank import Recipe
    from quant.calibration import Observed
    from quant.cells import Packed

CLAIMS = ".claims"
REMEDY = (
    "free some, or let XDG_CACHE_HOME name a larger disk, and give the same command "
    "again; the cells that are finished are kept"
)
# seconds between two looks at what another process has made
PATIENCE = 0.2


@dataclass(frozen=True)
class Source:
    """Where weights and calibration inputs come from: called only if needed.

    `size` are the samples of a batch, where several sources differ in that; the last
    `judging` batches are for judging tuned cells, and nothing is calibrated on them.
    """

    model: Callable[[], Model]
    batches: Callable[[Model], Iterable[State]]
    device: str = "cpu"
    size: int = 0
    judging: int = 0


def build_bank(
    root: Path,
    recipe: Recipe,
    linears: Sequence[Linear],
    source: Source,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> int:
    """Make whatever is missing of a bank, and say how many cells that were.

    Args:
        root: where banks are kept; this one's folder is `root / recipe.digest`.
        recipe: what the cells are to be.
        linears: all those of the model.
        source: the model and its calibration inputs.
        progress: is told the linears done and wanted.

    Raises:
        BankError: the disk has too little room.
        FullError: it turns out to have; finished cells are kept.
        ModelError: a linear whose weights or activations are not finite.
    """
    folder = root / recipe.digest
    (folder / CLAIMS).mkdir(parents=True, exist_ok=True)
    for each, prefix in ((folder, DRAFT), (folder, SPOOLED), (folder / FED, DRAFT)):
        clear_drafts(each, prefix)
    build = _Build(folder, recipe, linears, progress)
    build.look()
    check_bank(folder, recipe, linears, build.lacking, source.device)
    if build.lacking:
        model = source.model()
        while build.lacking:
            build.run(model, source)
            build.look()
    fed = fed_manifest(folder, build.names, len(recipe.calibration))
    write_manifest(folder, {**about(recipe, build.names), **fed})
    return build.made


@dataclass
class _Build:
    """One process's part in making a bank."""

    folder: Path
    recipe: Recipe
    linears: Sequence[Linear]
    progress: Callable[[int, int], object]
    lacking: dict[str, list[str]] = field(default_factory=dict)
    made: int = 0
    widths: Widths = field(default_factory=Widths)
    claim: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All linears of the model."""
        return tuple(linear.name for linear in self.linears)

    def look(self) -> None:
        """See what is missing now."""
        self.lacking = missing_cells(self.folder, self.recipe, self.names)
        self._tell()

    def _tell(self) -> None:
        self.progress(len(self.names) - len(self.lacking), len(self.names))

    def run(self, model: Model, source: Source) -> None:
        """One pass over the stages, or a short wait if others make all that is left."""
        stages = model.stages()
        with self.claim:
            if not any(self._claim(stage) for stage in stages if self._lacks(stage)):
                time.sleep(PATIENCE)
                return
        calibrated = [at for at, stage in enumerate(stages) if self._reads(stage)]
        last = max(calibrated, default=-1)
        with self.claim:
            if calibrated:
                self._calibrate(model, source, stages[: last + 1])
            for stage in stages[last + 1 :]:
                self._wanted(model.module, stage, source.device)

    def _calibrate(self, model: Model, source: Source, stages: Sequence[Stage]) -> None:
        """Run stages, and make what is missing of each."""
        states = Spool(self.folder, source.device)
        for state in source.batches(model):
            states.append(state)

        def wanted(stage: Stage) -> list[Siblings]:
            return self._wanted(model.module, stage, source.device)

        for observed in calibrate(model, states, wanted, stages):
            for pool in dict.fromkeys(one.pool for one in observed):
                if pool is not None:
                    keep_fed(self.folder, pool)
            while observed:
                # one at a time: what is mixed is a copy
                what = f"quantizing {', '.join(observed[0].siblings.names)}"
                with enough_memory(what, source.device):
                    self._solve(model.module, observed.pop(0).filled(), source.device)

    def _reads(self, stage: Stage) -> bool:
        """Whether cells are missing that are made of what their linears read."""
        kept = self.recipe.stored_keys
        return any(
            not kept.isdisjoint(self.lacking.get(name, ())) for name in stage.linears
        )

    def _lacks(self, stage: Stage) -> bool:
        return any(name in self.lacking for name in stage.linears)

    def _claim(self, stage: Stage) -> bool:
        """Take a stage, instead of the one before, unless somebody else has it."""
        self.claim.close()
        file = self.folder / CLAIMS / stage.name
        return self.claim.enter_context(claimed(file))

    def _wanted(self, module: Any, stage: Stage, device: str) -> list[Siblings]:
        """Sibling sets of a stage that this process is to solve on their inputs.

        Those that lack only what is made without are seen to at once.
        """
        if not self._lacks(stage) or not self._claim(stage):
            return []
        # somebody may have had it in between
        still = missing_cells(self.folder, self.recipe, stage.linears)
        for name in set(stage.linears) & self.lacking.keys() - still.keys():
            del self.lacking[name]
        self.lacking |= still
        sets = [s for s in stage.siblings if still.keys() & set(s.names)]
        kept = self.recipe.stored_keys
        read = [s for s in sets if any(kept & set(still.get(n, ())) for n in s.names)]
        for siblings in sets:
            if siblings not in read:
                self._write(siblings, self._made_alone(module, siblings, device))
        return read

    def _solve(self, module: Any, observed: Observed, device: str) -> None:
        """Make the missing cells of one sibling set, by all methods."""
        siblings = observed.siblings
        packed = self._made_alone(module, siblings, device)
        weights = [weight_of(module, name, device) for name in siblings.names]
        for label, method in self.recipe.methods.items():
            if not is_stored(method):
                continue
            missing = self._missing(siblings, label)
            widths = sorted({bits for own in missing.values() for bits in own})
            if widths:
                cells = self._quantize(label, weights, observed, widths)
                for at, (name, own) in enumerate(missing.items()):
                    for bits in own:
                        key = self.recipe.key(label, bits)
                        packed[name][key] = packed_cell(cells[bits][at])
                    # each goes as soon as it is packed
                    for row in cells.values():
                        row[at] = None
        self._write(siblings, packed)

    def _made_alone(
        self, module: Any, siblings: Siblings, device: str
    ) -> dict[str, dict[str, Packed]]:
        """Descriptions of the missing cells that are not stored, by linear and key."""
        packed: dict[str, dict[str, Packed]] = {name: {} for name in siblings.names}
        for label, method in self.recipe.methods.items():
            missing = {} if is_stored(method) else self._missing(siblings, label)
            for name, widths in missing.items():
                weight = weight_of(module, name, device)
                for bits in widths:
                    with _named(name):
                        cell = self.recipe.made_alone(label, weight, bits)
                    key = self.recipe.key(label, bits)
                    packed[name][key] = packed_cell(cell, stored=False)
        return packed

    def _missing(self, siblings: Siblings, method: str) -> dict[str, list[int]]:
        """The widths at which each linear of a set lacks a method's cells."""
        keys = {self.recipe.key(method, bits): bits for bits in self.recipe.low}
        return {
            name: [keys[key] for key in self.lacking.get(name, ()) if key in keys]
            for name in siblings.names
        }

    def _quantize(
        self,
        method: str,
        weights: Sequence[Tensor],
        observed: Observed,
        widths: Sequence[int],
    ) -> dict[int, list[Any]]:
        siblings, found = observed.siblings, dict[int, list[Any]]()
        known = weights, observed.inputs, self.recipe.scheme
        quantize = partial(self.recipe.methods[method].quantize, *known)
        solve = partial(quantize, foldable=siblings.fold is not None)
        self.widths.weights = sum(weight.numel() for weight in weights)
        self.widths.what = ", ".join(siblings.names)
        with _named(*siblings.names):
            for cells in self.widths.run(widths, solve, method):
                found |= {bits: list(row) for bits, row in cells.items()}
        return found

    def _write(
        self, siblings: Siblings, packed: Mapping[str, Mapping[str, Packed]]
    ) -> None:
        """Write what was made of a sibling set: nothing of it is missing any more."""
        try:
            add_cells(self.folder, {name: own for name, own in packed.items() if own})
        except FullError as error:
            needed = missing_bytes(self.recipe, self.linears, self.lacking)
            what = "what is missing of the bank"
            raise full(self.folder, what, needed, REMEDY) from error
        self.made += sum(map(len, packed.values()))
        for name in siblings.names:
            self.lacking.pop(name, None)
        self._tell()


def weight_of(module: Any, name: str, device: str) -> Tensor:
    """A linear's weight as the checkpoint stores it, on a device."""
    weight: Tensor = view_of(module, name).detach().to(device)
    return weight


@contextmanager
def _named(*linears: str) -> Iterator[None]:
    """Say of which linears something is wrong."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{', '.join(linears)}: {error}") from None
