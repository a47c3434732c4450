"""The file of one linear: all its cells, packed, each with a checksum.

A safetensors file. Its metadata name the linear and describe each cell: width, shape,
the checksum of each part, and one over all of that. Tensors are named by the latter, so
that equal cells are stored once. Of a cell that is made when it is asked for (`Method`
in `allocator.core.ports`) there is the description alone: it tells whether what is made
then is what was made first.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from allocator.core.allocation import digest
from allocator.core.bounded import check_safetensors, parse_json
from allocator.core.errors import BankError, FullError
from quant.files import locked, replace_files
from quant.packed import PackedCell
from quant.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from torch import Tensor

    from quant.grid import Cell

Description = dict[str, Any]
Tensors = dict[str, "Tensor"]
Packed = tuple[Description, Tensors]
LOCK = ".lock"
SUFFIX = ".safetensors"
# of a file's metadata: whose cells these are; banks of before do not say so
LINEAR = "linear"
# bytes that a file system gives to a name
LONGEST_NAME = 255


class DamagedCellError(BankError):
    """A cell that is not what was written."""


def file_of(folder: Path, name: str) -> Path:
    """The file that holds a linear's cells."""
    return folder / f"{name}{SUFFIX}"


def _linear(file: Path) -> str:
    """Name of the linear whose file it is."""
    return file.name.removesuffix(SUFFIX)


def has_file(name: str) -> bool:
    """Whether a linear of this name may have a file: beside others, nowhere else."""
    length = len(f"{name}{SUFFIX}".encode(errors="replace"))
    return os.path.basename(name) == name and length <= LONGEST_NAME


def stored_cells(file: Path) -> dict[str, Description]:
    """Descriptions of the cells a file holds; none where there is no whole file."""
    if not file.exists():
        return {}
    try:
        check_safetensors(file)
        with safe_open(file, framework="pt") as opened:
            said = opened.metadata()
        cells: dict[str, Description] = parse_json(said["cells"])
        if said.get(LINEAR, _linear(file)) != _linear(file):
            # somebody has put another linear's file in its place
            return {}
        # a cell whose description was damaged is not there
        return {k: cell for k, cell in cells.items() if cell.get("sum") == _seal(cell)}
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError):
        # a damaged file is made again
        return {}


def packed_cell(cell: Cell, *, stored: bool = True) -> Packed:
    """A cell as it is stored: its description, and its tensors by name.

    `stored`: if not, the description alone.
    """
    parts = {"codes": pack(cell.codes, cell.bits), "scale": cell.scale}
    if cell.zero is not None:
        whole = cell.zero.dtype == torch.uint8
        parts["zero"] = pack(cell.zero, cell.bits) if whole else cell.zero
    if cell.channel_scale is not None:
        parts["channel_scale"] = cell.channel_scale
    packed = {name: part.cpu().contiguous() for name, part in parts.items()}
    described: Description = {
        "bits": cell.bits,
        "columns": cell.columns,
        "shape": list(cell.codes.shape),
        "fallback": cell.fallback,
        "parts": {name: checksum(part) for name, part in packed.items()},
    }
    described["sum"] = _seal(described)
    if not stored:
        return {**described, "stored": False}, {}
    return described, {_tensor(described, name): x for name, x in packed.items()}


def has_tensors(described: Description) -> bool:
    """Whether a file has the cell itself, and not its description alone."""
    return bool(described.get("stored", True))


def _tensor(described: Description, part: str) -> str:
    """Name of a part's tensor inside the file."""
    return f"{described['sum']}.{part}"


def _seal(described: Description) -> str:
    """Checksum of a cell: of its parts' checksums and of how they are to be read."""
    named = ("bits", "columns", "shape", "parts")
    return digest([described.get(name) for name in named])


def checksum(part: Tensor) -> str:
    """Digest of a tensor, its type and shape included."""
    total = hashlib.sha256(f"{part.dtype} {tuple(part.shape)};".encode())
    total.update(part.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()[:32]


def add_cells(folder: Path, packed: Mapping[str, Mapping[str, Packed]]) -> None:
    """Write the packed cells of some linears beside those their files already hold.

    What siblings share is solved together, so their files appear together too: all are
    written before the first takes its place.
    """
    with locked(folder / LOCK):
        files = {}
        for name, own in packed.items():
            file = file_of(folder, name)
            cells = {**stored_cells(file), **{key: own[key][0] for key in own}}
            tensors = {k: t for _, parts in own.values() for k, t in parts.items()}
            files[file] = (cells, tensors)
        _write(files)


def drop_cells(file: Path, keys: Collection[str]) -> None:
    """Take cells out of a file, and the file away if none is left."""
    with locked(file.parent / LOCK):
        stored = stored_cells(file)
        left = {key: cell for key, cell in stored.items() if key not in keys}
        if left:
            _write({file: (left, {})})
        else:
            file.unlink(missing_ok=True)


def keep_descriptions(file: Path, keys: Collection[str]) -> None:
    """Take the tensors of some cells out of a file."""
    with locked(file.parent / LOCK):
        cells = stored_cells(file)
        for key in cells.keys() & set(keys):
            cells[key] = {**cells[key], "stored": False}
        _write({file: (cells, {})})


def _write(files: Mapping[Path, tuple[dict[str, Description], Tensors]]) -> None:
    """Replace files; tensors that are not new come from the old ones."""

    def writer(file: Path) -> Callable[[Path], object]:
        def write(draft: Path) -> None:
            cells, new = files[file]
            whole = [cell for cell in cells.values() if has_tensors(cell)]
            wanted = {_tensor(cell, x) for cell in whole for x in cell["parts"]}
            tensors = {name: new[name] for name in sorted(wanted) if name in new}
            old = sorted(wanted - new.keys())
            if old:
                with safe_open(file, framework="pt") as opened:
                    tensors |= {name: opened.get_tensor(name) for name in old}
            said = {"cells": json.dumps(cells), LINEAR: _linear(file)}
            save_file(tensors, draft, said)

        return write

    whole = [tensors for _, tensors in files.values()]
    needed = sum(each.nbytes for tensors in whole for each in tensors.values())
    try:
        replace_files({file: writer(file) for file in files}, needed)
    except FullError:
        raise
    except (SafetensorError, OSError) as error:
        first = next(iter(files))
        raise BankError(f"{first} cannot be written: {error}") from None


def read_packed(
    file: Path, key: str, described: Description | None = None, *, known: bool = False
) -> PackedCell:
    """Map one cell from its file, its codes as they are stored.

    Args:
        file: of the linear.
        key: names the cell.
        described: what `stored_cells` says of it, for those who know.
        known: whether its checksums were compared before; else they are now.

    Raises:
        DamagedCellError: the cell is missing, or not what was written.
    """
    described = described or stored_cells(file).get(key)
    if described is None:
        raise DamagedCellError(f"{file} holds no cell {key}: build the bank again")
    parts = _read_parts(file, key, described, known=known)
    bits, scale, zero = described["bits"], parts["scale"], parts.get("zero")
    if described["shape"][1] % described["columns"]:
        raise DamagedCellError(
            f"cell {key} in {file} is of an earlier version, whose groups were cut "
            "off at the end of a row: make it again"
        )
    if zero is not None and zero.dtype == torch.uint8:
        zero = unpack(zero, bits, tuple(scale.shape))
    rows, columns = described["shape"]
    return PackedCell(
        codes=parts["codes"],
        shape=(rows, columns),
        scale=scale,
        zero=zero,
        columns=described["columns"],
        bits=bits,
        channel_scale=parts.get("channel_scale"),
        fallback=described.get("fallback"),
    )


def read_cell(file: Path, key: str, described: Description | None = None) -> Cell:
    """Read one cell and compare its checksums.

    Raises:
        DamagedCellError: as `read_packed`.
    """
    return read_packed(file, key, described).cell()


def read_part(file: Path, key: str, part: str) -> Tensor | None:
    """One part of a cell alone, such as its `channel_scale`; None: it has no such part.

    Raises:
        DamagedCellError: the cell is missing, or this part not what was written.
    """
    described = stored_cells(file).get(key)
    if described is None:
        raise DamagedCellError(f"{file} holds no cell {key}: build the bank again")
    return _read_parts(file, key, described, (part,)).get(part)


def _read_parts(
    file: Path,
    key: str,
    described: Description,
    only: Collection[str] | None = None,
    *,
    known: bool = False,
) -> dict[str, Tensor]:
    sums = described["parts"]
    wanted = [part for part in sums if only is None or part in only]
    try:
        with safe_open(file, framework="pt") as opened:
            parts = {x: opened.get_tensor(_tensor(described, x)) for x in wanted}
    except (SafetensorError, OSError) as error:
        raise DamagedCellError(f"cell {key} in {file} is damaged ({error})") from None
    if not known and any(checksum(parts[part]) != sums[part] for part in wanted):
        raise DamagedCellError(f"cell {key} in {file} is damaged: bytes changed")
    return parts


def is_whole(file: Path, key: str, total: str) -> bool:
    """Whether a file has a cell of this checksum, and all of it as it was written."""
    described = stored_cells(file).get(key)
    if described is None or described["sum"] != total:
        return False
    try:
        _read_parts(file, key, described)
    except DamagedCellError:
        return False
    return True


def damaged_cells(file: Path) -> tuple[str, ...]:
    """Cells that a file has whole, and that do not match their checksums."""
    found = []
    for key, described in stored_cells(file).items():
        if not has_tensors(described):
            continue
        try:
            _read_parts(file, key, described)
        except DamagedCellError:
            found.append(key)
    return tuple(found)
