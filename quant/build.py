"""Make what is missing of a bank: streamed, shared between processes, never twice.

A pass runs the model stage by stage. Of each stage that lacks cells, and that no other
process has claimed, it solves one sibling set after the other, and writes the cells of
one method before it starts on the next: what is written is never made again.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, linear_bytes
from allocator.core.errors import BankError, ModelError
from quant.bank import about, missing_cells, write_manifest
from quant.calibration import calibrate
from quant.cells import add_cells, packed_cell
from quant.files import claimed
from quant.streaming import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Method, Model, Siblings, Stage, State
    from allocator.core.spec import Linear
    from quant.bank import Recipe
    from quant.calibration import Observed
    from quant.cells import Packed

CLAIMS = ".claims"
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
        BankError: the disk has, or turns out to have, too little room.
        ModelError: a linear whose weights or activations are not finite.
    """
    folder = root / recipe.digest
    (folder / CLAIMS).mkdir(parents=True, exist_ok=True)
    build = _Build(folder, recipe, tuple(linear.name for linear in linears), progress)
    build.look()
    check_room(folder, missing_bytes(recipe, linears, build.lacking))
    if build.lacking:
        model = source.model()
        while build.lacking:
            build.run(model, source)
            build.look()
    write_manifest(folder, about(recipe, build.names))
    return build.made


def missing_bytes(
    recipe: Recipe, linears: Iterable[Linear], lacking: Mapping[str, Sequence[str]]
) -> int:
    """Bytes that missing cells will take at most: equal ones are stored once."""
    total = 0
    for linear in linears:
        for key in lacking.get(linear.name, ()):
            bits = int(key.rsplit(".", 1)[1])
            # AWQ's scale has an fp16 number for each input
            total += (
                linear_bytes(linear, recipe.scheme, bits, "none")
                + 2 * linear.in_features
            )
    return total


def check_room(folder: Path, needed: int) -> None:
    """Refuse what does not fit on the disk.

    Raises:
        BankError: says how much is needed and how much there is.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BankError(
            f"the bank takes {needed / 1e9:,.1f} GB more and {folder.parent} has "
            f"{free / 1e9:,.1f} GB free: limit it with --methods or --widths, or let "
            "XDG_CACHE_HOME name a larger disk"
        )


@dataclass
class _Build:
    """One process's part in making a bank."""

    folder: Path
    recipe: Recipe
    names: tuple[str, ...]
    progress: Callable[[int, int], object]
    lacking: dict[str, list[str]] = field(default_factory=dict)
    made: int = 0
    claim: ExitStack = field(default_factory=ExitStack)

    def look(self) -> None:
        """See what is missing now."""
        self.lacking = missing_cells(self.folder, self.recipe, self.names)
        self._tell()

    def _tell(self) -> None:
        self.progress(len(self.names) - len(self.lacking), len(self.names))

    def run(self, model: Model, source: Source) -> None:
        """One pass over the stages, or a short wait if others make all that is left."""
        stages = model.stages()
        last = max(at for at, stage in enumerate(stages) if self._lacks(stage))
        with self.claim:
            if not any(self._claim(stage) for stage in stages if self._lacks(stage)):
                time.sleep(PATIENCE)
                return
        states = Spool(self.folder, source.device)
        for state in source.batches(model):
            states.append(state)
        with self.claim:
            passing = calibrate(model, states, self._wanted, stages[: last + 1])
            for observed in passing:
                while observed:
                    self._solve(model.module, observed.pop(0), source.device)

    def _lacks(self, stage: Stage) -> bool:
        return any(name in self.lacking for name in stage.linears)

    def _claim(self, stage: Stage) -> bool:
        """Take a stage, instead of the one before, unless somebody else has it."""
        self.claim.close()
        file = self.folder / CLAIMS / stage.name
        return self.claim.enter_context(claimed(file))

    def _wanted(self, stage: Stage) -> list[Siblings]:
        """Sibling sets of a stage that this process is to solve."""
        if not self._lacks(stage) or not self._claim(stage):
            return []
        # somebody may have had it in between
        still = missing_cells(self.folder, self.recipe, stage.linears)
        for name in set(stage.linears) & self.lacking.keys() - still.keys():
            del self.lacking[name]
        self.lacking |= still
        return [s for s in stage.siblings if still.keys() & set(s.names)]

    def _solve(self, module: Any, observed: Observed, device: str) -> None:
        """Make the missing cells of one sibling set, method by method."""
        names = observed.siblings.names
        weights = [
            module.get_submodule(name).weight.detach().to(device) for name in names
        ]
        for label, method in self.recipe.methods.items():
            keys = {
                self.recipe.key(label, bits): bits
                for bits in self.recipe.widths
                if bits != FULL
            }
            missing = {
                name: [key for key in self.lacking.get(name, ()) if key in keys]
                for name in names
            }
            widths = sorted({keys[key] for own in missing.values() for key in own})
            if widths:
                cells = self._quantize(method, weights, observed, widths)
                self._write(missing, keys, cells)
        for name in names:
            self.lacking.pop(name, None)
        self._tell()

    def _quantize(
        self,
        method: Method,
        weights: Sequence[Tensor],
        observed: Observed,
        widths: Sequence[int],
    ) -> dict[int, list[Any]]:
        foldable = observed.siblings.fold is not None
        try:
            cells = method.quantize(
                weights, observed.inputs, self.recipe.scheme, widths, foldable=foldable
            )
        except ModelError as error:
            names = ", ".join(observed.siblings.names)
            raise ModelError(f"{names}: {error}") from None
        return {bits: list(row) for bits, row in cells.items()}

    def _write(
        self,
        missing: Mapping[str, Sequence[str]],
        keys: Mapping[str, int],
        cells: dict[int, list[Any]],
    ) -> None:
        """Write one method's cells, and let go of each as soon as it is packed."""
        packed: dict[str, dict[str, Packed]] = {}
        for at, (name, own) in enumerate(missing.items()):
            for key in own:
                cell = cells[keys[key]][at]
                packed.setdefault(name, {})[key] = packed_cell(cell)
            for row in cells.values():
                row[at] = None
        add_cells(self.folder, packed)
        self.made += sum(map(len, packed.values()))
