"""The bank: every linear at every width and method, made once, kept on disk.

The folder's name is a digest of what the cells depend on, so nothing stale is ever
read. Each linear has a file (`quant.cells`); the manifest comes last and says what
should be there. `quant.build` makes what is missing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, Choice, digest
from allocator.core.bounded import read_json
from allocator.core.errors import BankError
from allocator.core.memory import share
from allocator.core.ports import is_stored
from quant.cells import (
    DamagedCellError,
    damaged_cells,
    drop_cells,
    file_of,
    has_file,
    has_tensors,
    packed_cell,
    read_packed,
    read_part,
    stored_cells,
)
from quant.files import replace_file
from quant.kept import Kept, PackedCells
from quant.lru_cache import LRUCache
from quant.packed import PackedCell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Method
    from allocator.core.spec import Linear, ModelSpec
    from quant.cells import Description
    from quant.grid import Cell

FORMAT = 3
MANIFEST = "manifest.json"
# bytes of one: a kilobyte a linear, of which mixtures have 100,000
LARGEST_MANIFEST = 2**28
# float32 weights of all cells that are kept decoded
DECODED_BYTES = 2**29


@dataclass(frozen=True)
class Recipe:
    """What the cells of a bank depend on.

    `weights` is the checkpoint's digest, `calibration` has one of each sample,
    `methods` maps names to code, and `arithmetic` is the kind of device and the type in
    which the model is calibrated.
    """

    weights: str
    calibration: tuple[str, ...]
    scheme: Scheme
    methods: Mapping[str, Method]
    widths: tuple[int, ...]
    arithmetic: str = "cpu/float32"

    @property
    def digest(self) -> str:
        """Name of the bank's folder; methods and widths may be added later."""
        of = self.scheme
        scheme = [
            of.group_size,
            of.symmetric,
            of.scales,
            self.arithmetic,
            *of.regrouped,
        ]
        return digest([FORMAT, self.weights, list(self.calibration), scheme])

    def key(self, method: str, bits: int) -> str:
        """Name of a cell inside a linear's file."""
        return f"{method}.{self.methods[method].version}.{bits}"

    @property
    def keys(self) -> tuple[str, ...]:
        """All cells wanted of each linear."""
        return tuple(
            self.key(method, bits) for method in self.methods for bits in self.low
        )

    @property
    def low(self) -> tuple[int, ...]:
        """The widths that have cells."""
        return tuple(bits for bits in self.widths if bits != FULL)

    @property
    def stored_keys(self) -> frozenset[str]:
        """Those of the cells wanted that are kept, and not made when asked for."""
        names = self.stored_methods
        return frozenset(self.key(name, bits) for name in names for bits in self.low)

    @property
    def stored_methods(self) -> tuple[str, ...]:
        """The methods whose cells are kept."""
        return tuple(name for name, own in self.methods.items() if is_stored(own))

    def made_alone(self, method: str, weight: Tensor, bits: int) -> Cell:
        """The cell of a matrix [out, in], by a method whose cells are not stored.

        Raises:
            ModelError: weights that are not finite.
        """
        made = self.methods[method].quantize([weight], None, self.scheme, [bits])
        cell: Cell = made[bits][0]
        return cell


def missing_cells(
    folder: Path, recipe: Recipe, names: Iterable[str]
) -> dict[str, list[str]]:
    """For each linear that is not complete, the cells it lacks."""
    lacking, kept, wanted = {}, recipe.stored_keys, recipe.keys
    for name in names:
        have = {
            key
            for key, cell in stored_cells(file_of(folder, name)).items()
            if has_tensors(cell) or key not in kept
        }
        lacks = [key for key in wanted if key not in have]
        if lacks:
            lacking[name] = lacks
    return lacking


def drop_damaged(folder: Path, names: Iterable[str]) -> int:
    """Take away cells that are not what was written, and say how many they were."""
    dropped = 0
    for name in names:
        file = file_of(folder, name)
        damaged = damaged_cells(file)
        if damaged:
            drop_cells(file, damaged)
        dropped += len(damaged)
    return dropped


def about(recipe: Recipe, names: Iterable[str]) -> dict[str, Any]:
    """What a bank depends on, and the linears it has: a manifest without its cells."""
    return {
        "format": FORMAT,
        "weights": recipe.weights,
        "calibration": list(recipe.calibration),
        "group_size": recipe.scheme.group_size,
        "symmetric": recipe.scheme.symmetric,
        "scales": recipe.scheme.scales,
        "arithmetic": recipe.arithmetic,
        "linears": dict.fromkeys(names),
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Say what cells there are of each linear listed, and where a method fell back."""
    cells = {name: stored_cells(file_of(folder, name)) for name in manifest["linears"]}
    fallbacks = {
        name: {key: cell["fallback"] for key, cell in own.items() if cell["fallback"]}
        for name, own in cells.items()
    }
    whole = {
        **manifest,
        "linears": {
            name: {key: cell["sum"] for key, cell in own.items()}
            for name, own in cells.items()
        },
        "fallbacks": {name: own for name, own in fallbacks.items() if own},
    }
    # an indented one takes ten times as long to write, and nobody reads thousands
    file, text = folder / MANIFEST, json.dumps(whole) + "\n"
    # whatever is there may be damaged
    if not file.exists() or file.read_bytes() != text.encode():
        replace_file(file, lambda draft: draft.write_text(text))


@dataclass
class Bank(PackedCells):
    """Read access to a bank; a missing cell is refused here, not in the search.

    `rebuild` makes what is missing; without it a damaged cell is an error. `exact`
    gives a linear's weight, by full name, as the checkpoint stores it and on the device
    on which the bank was made; without it cells that are not stored are an error.

    Raises:
        BankError: a wanted cell of any linear is missing.
    """

    folder: Path
    recipe: Recipe
    spec: ModelSpec
    rebuild: Callable[[], object] | None = None
    exact: Callable[[str], Tensor] | None = None
    kept: Kept = field(default_factory=Kept)
    _described: dict[str, dict[str, Description]] = field(default_factory=dict)
    _checked: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        names = [linear.name for linear in self.spec.linears]
        lacking = missing_cells(self.folder, self.recipe, names)
        if lacking:
            name, keys = next(iter(lacking.items()))
            raise BankError(
                f"the bank {self.folder} lacks {len(lacking)} linears, "
                f"{name} at {keys[0]} among them: build it again"
            )
        weights = sum(linear.weights for linear in self.spec.linears)
        if 4 * weights * len(self.recipe.keys) <= DECODED_BYTES:
            self.kept.decoded = LRUCache(share(1 / 16, DECODED_BYTES))
        # when a bank was last of use decides what is thrown away first
        if (self.folder / MANIFEST).exists():
            os.utime(self.folder / MANIFEST)

    def cell_sum(self, linear: Linear, choice: Choice) -> str:
        """Checksum of the cell a choice of at most 8 bits stands for."""
        if choice.method is None:
            raise BankError("16-bit weights have no cell")
        key = self.recipe.key(choice.method, choice.bits)
        return str(self._describe(linear.name)[key]["sum"])

    def _describe(self, name: str) -> dict[str, Description]:
        if name not in self._described:
            self._described[name] = stored_cells(file_of(self.folder, name))
        return self._described[name]

    def rest(self, *_: Any) -> Iterator[tuple[str, Tensor]]:
        """No other parameter changes with its cells: their scales are not folded."""
        return iter(())

    def packed(self, linear: Linear, choice: Choice) -> PackedCell:
        """The cell, packed, read anew; on the device of `exact` where it is not stored.

        It is compared with its checksum when first read, and made again if need be.

        Raises:
            BankError: it does not match, and nobody can make it again.
        """
        if choice.method is None:
            raise BankError("16-bit weights come from the checkpoint, not the bank")
        try:
            return self._read(linear.name, choice)
        except DamagedCellError:
            key = self.recipe.key(choice.method, choice.bits)
            file = file_of(self.folder, linear.name)
            drop_cells(file, {key, *damaged_cells(file)})
            self._described.pop(linear.name, None)
            if self.rebuild is None:
                raise
        self.rebuild()
        return self._read(linear.name, choice)

    def _read(self, name: str, choice: Choice) -> PackedCell:
        """A cell from its file, or made anew where that has its description alone."""
        assert choice.method is not None
        key = self.recipe.key(choice.method, choice.bits)
        described = self._describe(name).get(key)
        if described is None:
            raise DamagedCellError(f"the bank {self.folder} has no {key} of {name}")
        known = (name, described["sum"]) in self._checked
        if has_tensors(described):
            file = file_of(self.folder, name)
            found = read_packed(file, key, described, known=known)
        else:
            found = self._made(name, choice, described, known=known)
        self._checked.add((name, described["sum"]))
        return found

    def _made(
        self, name: str, choice: Choice, described: Description, *, known: bool
    ) -> PackedCell:
        """A cell that is not stored, compared with its description once.

        Raises:
            DamagedCellError: it is not what it was when the bank was made.
        """
        if self.exact is None:
            raise BankError(
                f"{name} at {choice} is not stored, and there is no checkpoint at hand "
                "to make it of"
            )
        weight = self.exact(name)
        cell = self.recipe.made_alone(str(choice.method), weight, choice.bits)
        if not known and packed_cell(cell, stored=False)[0]["sum"] != described["sum"]:
            raise DamagedCellError(
                f"{name} at {choice} comes out otherwise than when the bank "
                f"{self.folder} was made: build it again"
            )
        return PackedCell.of(cell)

    def part(self, linear: Linear, choice: Choice, part: str) -> Tensor | None:
        """A cell's `scale` or `channel_scale` alone; None where it has none.

        Raises:
            BankError: it does not match its checksum, and nobody can make it again.
        """
        if choice.method is None:
            return None
        key = self.recipe.key(choice.method, choice.bits)
        described = self._describe(linear.name).get(key)
        if described is not None and part not in described["parts"]:
            return None
        try:
            if described is None or has_tensors(described):
                return read_part(file_of(self.folder, linear.name), key, part)
        except DamagedCellError:
            pass
        found: Tensor | None = getattr(self.cell(linear, choice), part)
        return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """A finished bank's manifest.

    Raises:
        BankError: there is none, or it is damaged.
    """
    try:
        manifest: dict[str, Any] = read_json(folder / MANIFEST, LARGEST_MANIFEST)
        if not isinstance(manifest["linears"], dict):
            raise TypeError("it lists no linears")
        if not all(isinstance(own, dict) for own in manifest["linears"].values()):
            raise TypeError("a linear in it has no cells")
        if not all(map(has_file, manifest["linears"])):
            raise ValueError("it names files elsewhere")
    except FileNotFoundError:
        raise BankError(f"the bank {folder} is not finished") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BankError(f"{folder / MANIFEST} is damaged: {error}") from None
    return manifest
