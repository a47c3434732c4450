"""GGUF files: blocks of codes in place of marks, and weights read back."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allocator.core.errors import ModelError
from allocator.core.targets import GGML_BLOCK, GGML_TYPES
from allocator.exporters._gguf_blocks import to_blocks
from allocator.exporters._gguf_marks import read_marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from quant.grid import Cell

Array = np.ndarray[Any, Any]

# which tensor holds which rows of which linear
PLACES = "tensors.json"
# weights that become blocks in one go
CHUNK = 2**22


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor of a GGUF file, and the rows of a linear's weight that it holds.

    Attributes:
        linear: full name of the linear.
        file: name of the GGUF file.
        tensor: name of the tensor.
        rows: [n] int64, in the tensor's order.
    """

    linear: str
    file: str
    tensor: str
    rows: Array


def find_marks(
    files: Iterable[Path], shapes: Mapping[str, Sequence[int]]
) -> list[Held]:
    """Where the rows of every linear went.

    Args:
        files: GGUF files with marks.
        shapes: [out, in] of every linear, in the order of their numbers.

    Raises:
        ModelError: not every row of every linear is in one tensor, once.
    """
    from gguf import GGUFReader

    names, places = list(shapes), []
    for file in files:
        for tensor in GGUFReader(file).tensors:
            if len(tensor.shape) == 2 and tensor.tensor_type.name in ("F16", "BF16"):
                found = read_marks(tensor.data)
                if found is not None:
                    name = names[found[0]]
                    places.append(Held(name, file.name, tensor.name, found[1]))
    by_linear = defaultdict(list)
    for held in places:
        by_linear[held.linear].append(held.rows)
    for name, (rows, _) in shapes.items():
        there = np.sort(np.concatenate(by_linear[name] or [np.empty(0, int)]))
        if not np.array_equal(there, np.arange(rows)):
            raise ModelError(
                f"llama.cpp's converter keeps {len(there)} of the {rows} rows of "
                f"{name}, or not each of them once"
            )
    return places


def write_file(
    source: Path,
    target: Path,
    places: Mapping[str, Held],
    kind_of: Callable[[str], str],
    cell: Callable[[str], Cell],
) -> None:
    """Copy a GGUF file, with blocks of codes in place of marks.

    Args:
        source: what the converter made.
        target: the file to write.
        places: tensors with marks, by name.
        kind_of: name of the ggml type that a linear becomes.
        cell: the cell of a linear.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    _copy_fields(reader, writer)
    for tensor in reader.tensors:
        shape, dtype, kind = tensor.data.shape, tensor.data.dtype, tensor.tensor_type
        if tensor.name in places:
            kind = GGMLQuantizationType[kind_of(places[tensor.name].linear)]
            columns = int(tensor.shape[0])
            shape = (shape[0], columns // GGML_BLOCK * GGML_TYPES[kind.name][1])
            dtype = np.dtype(np.uint8)
        size = int(np.prod(shape)) * dtype.itemsize
        writer.add_tensor_info(tensor.name, shape, dtype, size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        data = tensor.data
        if tensor.name in places:
            held = places[tensor.name]
            data = _blocks(cell(held.linear), held.rows)
        writer.write_tensor_data(data)
    writer.close()


def _copy_fields(reader: Any, writer: Any) -> None:
    """What a file says about the model, but for the one type of all its weights."""
    from gguf import GGUFValueType

    left = ("GGUF.", "general.architecture", "general.file_type")
    for field in reader.fields.values():
        if not field.name.startswith(left):
            kind = field.types[0]
            part = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, part)


def _blocks(cell: Cell, rows: Array) -> Array:
    """The blocks of a whole tensor, made in parts so that memory stays small."""
    step = max(1, CHUNK // cell.codes.shape[1])
    parts = (rows[at : at + step] for at in range(0, len(rows), step))
    return np.concatenate([to_blocks(cell, torch.from_numpy(p)).numpy() for p in parts])


def write_places(out: Path, places: Iterable[Held]) -> None:
    """Keep with the files which tensor holds which rows of which linear."""
    entries = []
    for held in places:
        entry: dict[str, Any] = {
            "linear": held.linear,
            "file": held.file,
            "tensor": held.tensor,
            "first": int(held.rows[0]),
            "count": len(held.rows),
        }
        if not np.array_equal(held.rows, _in_order(entry)):
            entry["rows"] = held.rows.tolist()
        entries.append(json.dumps(entry))
    (out / PLACES).write_text("[" + ",\n".join(entries) + "]\n")


def read_places(out: Path) -> list[Held]:
    """What `write_places` kept."""
    return [
        Held(
            entry["linear"],
            entry["file"],
            entry["tensor"],
            np.array(entry["rows"]) if "rows" in entry else _in_order(entry),
        )
        for entry in json.loads((out / PLACES).read_text())
    ]


def _in_order(entry: Mapping[str, Any]) -> Array:
    return np.arange(entry["first"], entry["first"] + entry["count"])
