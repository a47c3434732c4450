"""Finalized weights: the cells of one allocation and nothing else, in one folder.

Each linear below 16 bits has a file as in a bank (`quant.cells`) with the one cell that
it was given, without an AWQ scale: those are folded (`quant.folding`), and the
parameters that this changed have a file of their own. The manifest comes last: it says
what the weights were made of and what should be there. `quant.sequential` makes them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from allocator.core.allocation import FULL, Choice
from allocator.core.bounded import check_safetensors, read_json
from allocator.core.drafts import OLD, clear_drafts, draft_folder
from allocator.core.errors import BankError, FullError, SpecError
from allocator.core.full import naming_the_disk
from quant.assignment import VERSION, name_of, settings_of
from quant.bank import LARGEST_MANIFEST, MANIFEST
from quant.cells import (
    SUFFIX,
    DamagedCellError,
    checksum,
    file_of,
    has_file,
    is_whole,
    read_packed,
    stored_cells,
)
from quant.files import replace_file
from quant.folding import settled
from quant.grid import torch_type
from quant.kept import Kept, PackedCells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import torch
    from torch import Tensor

    from allocator.core.spec import Linear
    from quant.assignment import Assignment
    from quant.packed import PackedCell

CHANGED = f"changed{SUFFIX}"
# what a manifest of another form raises where it is read
UNREADABLE = (KeyError, OSError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True)
class Finalized(PackedCells):
    """Read access to finalized weights, in place of a bank; see `Finalized.open`.

    Attributes:
        folder: where they are.
        digest: what they were made for: of the recipe and of each linear's choice.
        weights: digest of the checkpoint they were made of.
        choices: bits and method of every linear in a group, by full name.
        keys: name of its cell, for those below 16 bits.
        sums: checksum of its cell, for the same.
        changed_sums: checksums of the parameters that folding changed, by full name.
        dtype: the 16-bit type of scales and of what has no codes.
        kept: cells that were put in place, mapped from their files.
    """

    folder: Path
    digest: str
    weights: str
    choices: Mapping[str, Choice]
    keys: Mapping[str, str]
    sums: Mapping[str, str]
    changed_sums: Mapping[str, str]
    dtype: torch.dtype
    kept: Kept = field(default_factory=Kept.mapped, compare=False, repr=False)

    @staticmethod
    def open(folder: Path) -> Finalized:
        """Open finalized weights, every cell compared with its checksum.

        Raises:
            BankError: they are not there, not whole, or not what was written.
        """
        found = _read(folder)
        for name in found.keys:
            found.check_cell(folder, name)
        found.changed()
        return found

    def check_cell(self, folder: Path, name: str) -> None:
        """Compare a linear's cell in some folder with its checksum.

        Raises:
            BankError: it is not there, or not what was written.
        """
        file = file_of(folder, name)
        if not is_whole(file, self.keys[name], self.sums[name]):
            raise BankError(
                f"the finalized weights in {folder} are damaged: {file.name} is "
                "missing or not what was written"
            )

    def check(self, weights: str, choices: Mapping[str, Choice]) -> None:
        """Refuse to stand for another checkpoint, or for other choices.

        Args:
            weights: the checkpoint's digest.
            choices: bits and method of every linear in a group.

        Raises:
            SpecError: says which linear differs.
        """
        if weights != self.weights:
            raise SpecError(
                f"the finalized weights in {self.folder} were made of another "
                "checkpoint"
            )
        for name in (*choices, *self.choices):
            own, asked = self.choices.get(name), choices.get(name)
            if own != asked:
                raise SpecError(
                    f"the finalized weights in {self.folder} have {name} at {own}, "
                    f"not at {asked}"
                )

    def cell_sum(self, linear: Linear, choice: Choice) -> str:
        """Checksum of the cell of a linear; `choice` must be the one it was given."""
        self._own(linear, choice)
        return self.sums[linear.name]

    def packed(self, linear: Linear, choice: Choice) -> PackedCell:
        """The cell of a linear, packed: it has no AWQ scale.

        Raises:
            BankError: another choice than it was given, or a file that was damaged
                since it was opened.
        """
        key = self._own(linear, choice)
        try:
            return read_packed(file_of(self.folder, linear.name), key)
        except DamagedCellError as error:
            raise BankError(
                f"the finalized weights of {linear.name} have changed: {error}"
            ) from None

    def changed(self) -> dict[str, Tensor]:
        """Parameters that folding changed, by full name, in 16 bits.

        Raises:
            BankError: their file is gone, or not what was written.
        """
        if not self.changed_sums:
            return {}
        try:
            check_safetensors(self.folder / CHANGED)
            found: dict[str, Tensor] = load_file(self.folder / CHANGED)
        except (SafetensorError, OSError, ValueError):
            found = {}
        if {
            name: checksum(value) for name, value in found.items()
        } != self.changed_sums:
            raise BankError(
                f"the finalized weights in {self.folder} are damaged: {CHANGED} is "
                "missing or not what was written"
            )
        return found

    def rest(
        self, choices: Mapping[str, Choice], parameters: Iterable[tuple[str, Tensor]]
    ) -> Iterator[tuple[str, Tensor]]:
        """Those of a model's other parameters that a checkpoint stores otherwise.

        Args:
            choices: bits and method of every linear in a group.
            parameters: at full precision, by full name; those without a cell.

        Raises:
            BankError: other choices than they were made for, or a damaged file.
        """
        if dict(choices) != dict(self.choices):
            raise BankError("finalized weights go all together, or not at all")
        return settled(parameters, self.changed(), self.dtype)

    def _own(self, linear: Linear, choice: Choice) -> str:
        own = self.choices.get(linear.name)
        if own != choice or linear.name not in self.keys:
            raise BankError(f"{linear.name} was finalized at {own}, not at {choice}")
        return self.keys[linear.name]

    def copy(self, target: Path) -> None:
        """Write a copy; finalized weights that are already there make room for it.

        Raises:
            SpecError: something else is in its place, or it cannot be written.
        """
        if target.exists() and not (target / MANIFEST).is_file():
            raise SpecError(f"{target} is in the way: move it, or export elsewhere")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            clear_drafts(target.parent)
            files = [file_of(self.folder, linear) for linear in self.keys]
            files += [self.folder / CHANGED] if self.changed_sums else []
            files.append(self.folder / MANIFEST)
            needed = sum(file.stat().st_size for file in files)
            with (
                naming_the_disk(target.parent, target.name, needed),
                draft_folder(target.parent) as beside,
            ):
                draft, old = beside / "new", beside / OLD
                draft.mkdir()
                for file in files:
                    shutil.copyfile(file, draft / file.name)
                if target.exists():
                    old.mkdir()
                    target.rename(old / target.name)
                draft.rename(target)
        except FullError:
            raise
        except OSError as error:
            raise SpecError(f"cannot write {target}: {error}") from None


def write_manifest(
    folder: Path, wanted: Assignment, changed: Mapping[str, Tensor]
) -> Finalized:
    """Say what there is: finalized weights are whole from here on.

    Args:
        folder: has a file for each linear below 16 bits.
        wanted: what they were to become.
        changed: parameters that folding changed, by full name; written here.
    """
    recipe, keys = wanted.recipe, wanted.keys
    if changed:
        stored = {name: value.cpu().contiguous() for name, value in changed.items()}
        replace_file(folder / CHANGED, lambda draft: save_file(stored, draft))
    linears: dict[str, dict[str, Any]] = {}
    for name, choice in wanted.choices.items():
        linears[name] = {"bits": choice.bits, "method": choice.method}
        if name in keys:
            cell = stored_cells(file_of(folder, name))[keys[name]]
            linears[name] |= {"cell": keys[name], "sum": cell["sum"]}
            linears[name] |= {"fallback": cell["fallback"]} if cell["fallback"] else {}
    manifest = {
        "version": VERSION,
        "digest": wanted.digest,
        "recipe": recipe.digest,
        "weights": recipe.weights,
        "calibration": list(recipe.calibration),
        "group_size": recipe.scheme.group_size,
        "symmetric": recipe.scheme.symmetric,
        "scales": recipe.scheme.scales,
        "arithmetic": recipe.arithmetic,
        "corrected": wanted.corrected,
        "tuned": wanted.tune.described if wanted.tune else None,
        "linears": linears,
        "changed": {name: checksum(value) for name, value in changed.items()},
    }
    text = json.dumps(manifest, indent=1) + "\n"
    replace_file(folder / MANIFEST, lambda draft: draft.write_text(text))
    return _read(folder)


def verify_finalized(folder: Path) -> dict[str, Any]:
    """Compare finalized weights with their checksums, cell by cell; changes nothing."""
    cells, damaged = 0, list[tuple[Path, str]]()
    try:
        found = _read(folder)
    except BankError:
        damaged.append((folder / MANIFEST, "all"))
    else:
        cells = len(found.keys)
        for name, key in found.keys.items():
            if not is_whole(file_of(folder, name), key, found.sums[name]):
                damaged.append((file_of(folder, name), key))
        try:
            found.changed()
        except BankError:
            damaged.append((folder / CHANGED, "all"))
    told = [{"file": str(file), "cell": cell} for file, cell in damaged]
    return {"finalized": str(folder), "cells": cells, "damaged": told}


def _read(folder: Path) -> Finalized:
    """What a manifest says, no cell looked at.

    Raises:
        BankError: there is none, or it is damaged.
    """
    try:
        manifest = read_json(folder / MANIFEST, LARGEST_MANIFEST)
        linears, made = manifest["linears"], int(manifest["version"])
        if made != VERSION:
            raise BankError(
                f"the finalized weights in {folder} are of version {made}, whose AWQ "
                f"scales are not folded, and this reads version {VERSION}"
            )
        low = {name: own for name, own in linears.items() if own["bits"] != FULL}
        found = Finalized(
            folder,
            str(manifest["digest"]),
            str(manifest["weights"]),
            {name: Choice(own["bits"], own["method"]) for name, own in linears.items()},
            {name: str(own["cell"]) for name, own in low.items()},
            {name: str(own["sum"]) for name, own in low.items()},
            {name: str(own) for name, own in manifest["changed"].items()},
            torch_type(manifest["scales"]),
        )
        of = (manifest["recipe"], manifest["corrected"], manifest.get("tuned"))
        if found.digest != name_of(settings_of(*of), list(linears), found.keys):
            raise ValueError("it is of something else")
        if not all(map(has_file, linears)):
            raise ValueError("it names files elsewhere")
    except FileNotFoundError:
        raise BankError(f"there are no finalized weights in {folder}") from None
    except (AttributeError, *UNREADABLE) as error:
        raise BankError(f"{folder / MANIFEST} is damaged: {error}") from None
    return found
