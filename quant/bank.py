"""The bank: every linear at every width and method, made once, kept on disk.

One safetensors file for each linear holds all its cells: packed codes and zero-points,
fp16 scales. A file appears whole or not at all, the manifest comes last, and a cell's
checksum is compared when it is first used. The folder's name is a digest of what the
cells depend on, so nothing stale is ever read.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from allocator.core.allocation import FULL, Choice, digest
from allocator.core.errors import BankError
from quant.calibration import calibrate
from quant.files import checksum, locked, replace_file
from quant.grid import Cell, dequantize, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Method, Model, State
    from allocator.core.spec import Linear, ModelSpec
    from quant.calibration import Observed

FORMAT = 1
MANIFEST = "manifest.json"
CACHED_BYTES = 2**29


@dataclass(frozen=True)
class Recipe:
    """What the cells of a bank depend on.

    `weights` is the checkpoint's digest, `calibration` has one of each sample, and
    `methods` maps names to code.
    """

    weights: str
    calibration: tuple[str, ...]
    scheme: Scheme
    methods: Mapping[str, Method]
    widths: tuple[int, ...]

    @property
    def digest(self) -> str:
        """Name of the bank's folder; methods and widths may be added later."""
        scheme = [self.scheme.group_size, self.scheme.symmetric]
        return digest([FORMAT, self.weights, list(self.calibration), scheme])

    def key(self, method: str, bits: int) -> str:
        """Name of a cell inside a linear's file."""
        return f"{method}.{self.methods[method].version}.{bits}"

    @property
    def keys(self) -> tuple[str, ...]:
        """All cells wanted of each linear."""
        low = [bits for bits in self.widths if bits != FULL]
        return tuple(self.key(method, bits) for method in self.methods for bits in low)


def file_of(folder: Path, name: str) -> Path:
    """The file that holds a linear's cells."""
    return folder / f"{name}.safetensors"


def stored_cells(file: Path) -> dict[str, Any]:
    """Descriptions of the cells a file holds; none where there is no whole file."""
    if not file.exists():
        return {}
    try:
        with safe_open(file, framework="pt") as opened:
            cells: dict[str, Any] = json.loads(opened.metadata()["cells"])
            return cells
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        # a damaged file is made again
        return {}


def missing_cells(folder: Path, recipe: Recipe, names: Sequence[str]) -> dict[str, Any]:
    """For each linear that is not complete, the cells it lacks."""
    lacking = {}
    for name in names:
        have = stored_cells(file_of(folder, name))
        lacks = [key for key in recipe.keys if key not in have]
        if lacks:
            lacking[name] = lacks
    return lacking


def build_bank(
    root: Path,
    recipe: Recipe,
    model: Model,
    batches: Callable[[], Sequence[State]],
    progress: Callable[[int, int], object],
) -> Path:
    """Make whatever is missing of a bank and return its folder.

    A stopped build goes on where it was: linears that are complete are not solved
    again. `batches` gives the calibration inputs and is called only if they are needed;
    `progress` is told the linears done and wanted.
    """
    folder = root / recipe.digest
    folder.mkdir(parents=True, exist_ok=True)
    names = [n for stage in model.stages() for s in stage.siblings for n in s.names]
    lacking = missing_cells(folder, recipe, names)
    done = len(names) - len(lacking)
    progress(done, len(names))
    if lacking:
        for stage in calibrate(model, batches()):
            for observed in stage:
                done += _solve(folder, recipe, model.module, observed, lacking)
                progress(done, len(names))
    if lacking or not (folder / MANIFEST).exists():
        _write_manifest(folder, recipe, names)
    return folder


def _solve(
    folder: Path,
    recipe: Recipe,
    module: Any,
    observed: Observed,
    lacking: Mapping[str, Sequence[str]],
) -> int:
    """Make the missing cells of one sibling set; returns how many linears that were."""
    names = observed.siblings.names
    wanted = {key for name in names for key in lacking.get(name, ())}
    if not wanted:
        return 0
    weights = [module.get_submodule(name).weight.detach() for name in names]
    cells: list[dict[str, Cell]] = [{} for _ in names]
    for label, method in recipe.methods.items():
        widths = [
            bits
            for bits in recipe.widths
            if bits != FULL and recipe.key(label, bits) in wanted
        ]
        if not widths:
            continue
        made = method.quantize(
            weights,
            observed.inputs,
            recipe.scheme,
            widths,
            foldable=observed.siblings.fold is not None,
        )
        for bits, row in made.items():
            for own, cell in zip(cells, row, strict=True):
                own[recipe.key(label, bits)] = cell
    for name, own in zip(names, cells, strict=True):
        _add_cells(file_of(folder, name), own)
    return sum(name in lacking for name in names)


def _add_cells(file: Path, cells: Mapping[str, Cell]) -> None:
    """Write cells beside those a file already holds; equal cells are stored once."""
    with locked(file.parent):
        _merge_cells(file, cells)


def _merge_cells(file: Path, cells: Mapping[str, Cell]) -> None:
    described = stored_cells(file)
    tensors: dict[str, Tensor] = {}
    if described:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    for key, cell in cells.items():
        parts = _pack_cell(cell)
        sum_ = checksum(parts)
        described[key] = {
            "bits": cell.bits,
            "columns": cell.columns,
            "shape": list(cell.codes.shape),
            "fallback": cell.fallback,
            "parts": sorted(parts),
            "sum": sum_,
        }
        tensors.update({f"{sum_}.{part}": value for part, value in parts.items()})
    replace_file(
        file,
        lambda draft: save_file(tensors, draft, {"cells": json.dumps(described)}),
    )


def _pack_cell(cell: Cell) -> dict[str, Tensor]:
    parts = {"codes": pack(cell.codes, cell.bits), "scale": cell.scale}
    if cell.zero is not None:
        whole = cell.zero.dtype == torch.uint8
        parts["zero"] = pack(cell.zero, cell.bits) if whole else cell.zero
    if cell.channel_scale is not None:
        parts["channel_scale"] = cell.channel_scale
    return {name: part.cpu().contiguous() for name, part in parts.items()}


def _write_manifest(folder: Path, recipe: Recipe, names: Sequence[str]) -> None:
    fallbacks = {
        name: {
            key: cell["fallback"]
            for key, cell in stored_cells(file_of(folder, name)).items()
            if cell["fallback"]
        }
        for name in names
    }
    manifest = {
        "format": FORMAT,
        "weights": recipe.weights,
        "calibration": list(recipe.calibration),
        "group_size": recipe.scheme.group_size,
        "symmetric": recipe.scheme.symmetric,
        "linears": list(names),
        "fallbacks": {name: cells for name, cells in fallbacks.items() if cells},
    }
    text = json.dumps(manifest, indent=1) + "\n"
    replace_file(folder / MANIFEST, lambda draft: draft.write_text(text))


@dataclass
class Bank:
    """Read access to a bank; a missing cell is refused here, not in the search.

    Raises:
        BankError: a wanted cell of any linear is missing.
    """

    folder: Path
    recipe: Recipe
    spec: ModelSpec
    _weights: OrderedDict[tuple[str, str], Tensor] = field(default_factory=OrderedDict)
    _described: dict[str, dict[str, Any]] = field(default_factory=dict)
    _held: int = 0

    def __post_init__(self) -> None:
        names = [linear.name for linear in self.spec.linears]
        lacking = missing_cells(self.folder, self.recipe, names)
        if lacking:
            name, keys = next(iter(lacking.items()))
            raise BankError(
                f"the bank {self.folder} lacks {len(lacking)} linears, "
                f"{name} at {keys[0]} among them: build it again"
            )

    def cell_sum(self, linear: Linear, choice: Choice) -> str:
        """Checksum of the cell a choice of at most 8 bits stands for."""
        if choice.method is None:
            raise BankError("16-bit weights have no cell")
        if linear.name not in self._described:
            stored = stored_cells(file_of(self.folder, linear.name))
            self._described[linear.name] = stored
        cell = self._described[linear.name][self.recipe.key(choice.method, choice.bits)]
        return str(cell["sum"])

    def weight(self, linear: Linear, choice: Choice) -> Tensor:
        """Effective weight of a linear under a choice of at most 8 bits: [out, in].

        Raises:
            BankError: the cell does not match its checksum.
        """
        if choice.method is None:
            raise BankError("16-bit weights come from the checkpoint, not the bank")
        key = (linear.name, self.recipe.key(choice.method, choice.bits))
        if key not in self._weights:
            self._keep(key, dequantize(read_cell(file_of(self.folder, key[0]), key[1])))
        self._weights.move_to_end(key)
        return self._weights[key]

    def _keep(self, key: tuple[str, str], weight: Tensor) -> None:
        self._weights[key] = weight
        self._held += weight.nbytes
        while self._held > CACHED_BYTES and len(self._weights) > 1:
            _, old = self._weights.popitem(last=False)
            self._held -= old.nbytes


def read_cell(file: Path, key: str) -> Cell:
    """Read one cell and compare its checksum.

    Raises:
        BankError: the file or cell is missing or damaged.
    """
    described = stored_cells(file).get(key)
    if described is None:
        raise BankError(f"{file} holds no cell {key}: build the bank again")
    with safe_open(file, framework="pt") as opened:
        parts = {
            part: opened.get_tensor(f"{described['sum']}.{part}")
            for part in described["parts"]
        }
    if checksum(parts) != described["sum"]:
        # out of the way, so that the next run makes it again
        file.unlink(missing_ok=True)
        raise BankError(f"cell {key} in {file} was damaged and is removed: run again")
    bits, scale, zero = described["bits"], parts["scale"], parts.get("zero")
    if zero is not None and zero.dtype == torch.uint8:
        zero = unpack(zero, bits, tuple(scale.shape))
    return Cell(
        codes=unpack(parts["codes"], bits, described["shape"]),
        scale=scale,
        zero=zero,
        columns=described["columns"],
        bits=bits,
        channel_scale=parts.get("channel_scale"),
        fallback=described["fallback"],
    )
