"""compressed-tensors, format pack-quantized: what transformers and vLLM load.

Each linear below 16 bits has `weight_packed`, `weight_scale`, `weight_zero_point` where
grids are asymmetric, and `weight_shape`; config.json says in `quantization_config`
which linears have which grid. Codes and zero-points are stored as they are, from 0 on.

Which releases read it was tried with transformers 5.24 (`studies/export/releases.py`):

- 0.17.0 and 0.17.1 read all that is not written for vLLM at 3, 5 or 6 bits;
- 0.18.0 and 0.20.0 refuse zero-points: they make room for one a group, and then unpack
  them as if they were packed down a column (compressors/pack_quantized/base.py, the
  branch for meta tensors). Symmetric grids they read at 2, 4 and 8 bits, and at 3, 5
  and 6 bits where they were written for vLLM: since 0.18 words are dense.

Zero-points in dense words with rows of 0 below, up to the [out, groups] that 0.18.0 and
0.20.0 make room for, are read exactly by both. That is not written: it takes 32 bits a
zero-point, and neither 0.17 nor vLLM reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from allocator.core.errors import ModelError, SpecError
from allocator.core.exporting import EXACT, NO_OPTIONS, installed
from allocator.core.spec import EXTRAS
from allocator.core.targets import PACKED_EXPERTS
from allocator.exporters._experts import check_experts
from allocator.exporters._hub import hub_of
from allocator.exporters._lines import transformers_lines
from allocator.exporters._loaded import load
from allocator.exporters._patterns import patterns
from allocator.exporters._shards import tensor_bytes, write_shards
from allocator.exporters._words import from_words, to_words
from allocator.families import weight_files
from quant.grid import Cell, dequantize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from allocator.core.exporting import Exporter, Reopened, Tolerance
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export
    from allocator.exporters._hub import Hub

LIBRARY = "compressed-tensors"
FORMAT = "pack-quantized"
# from this release on words are dense, and asymmetric grids are not read
DENSE_SINCE = (0, 18)
READS_ALL = f"{LIBRARY}>=0.17,<0.18"
# widths whose words are not the same in both ways
UNEVEN = (3, 5, 6)
VLLM = "vllm"


class CompressedTensors:
    """Writes a complete checkpoint."""

    description = "a checkpoint that transformers and vLLM load, by compressed-tensors"

    options = NO_OPTIONS

    def loader(self) -> str | None:
        """Transformers, where compressed-tensors is installed."""
        return installed("transformers", LIBRARY)

    def layout(self, export: Export) -> str:
        """Sizes as vLLM has them where that is the target, else as transformers."""
        return VLLM if export.target == VLLM else "transformers"

    def check(self, export: Export) -> None:
        """Refuse grids and matrices that no loader reads.

        Raises:
            SpecError: says which, and what would do.
            ModelError: see `hub_of`.
        """
        made = export.checkpoint
        if made.scheme.group_size == "tensor":
            raise SpecError(
                f"{LIBRARY} packs one scale for each group or row, and here one is for "
                "a whole matrix: search with --group-size 128, 64, 32 or channel"
            )
        _check_extras(made)
        check_experts(made, LIBRARY, PACKED_EXPERTS)
        hub_of(made)

    def write(
        self, export: Export, out: Path, tick: Callable[[int, int], object]
    ) -> None:
        """Write config.json, the small files and the shards."""
        made = export.checkpoint
        hub = hub_of(made)
        hub.write(out, {"quantization_config": quantization_config(made)})
        write_shards(out, _tensors(made, hub, tick))

    def stored(self, out: Path) -> int:
        """Bytes of all tensors."""
        return tensor_bytes(out)

    def reopen(self, export: Export, out: Path) -> Reopened:
        """Through transformers; by the reader below where that does not read it.

        Raises:
            ModelError: transformers misses a tensor, or has no place for one.
        """
        made = export.checkpoint
        if reason := unread(made, release_here()):
            loader = f"this program's own reader: {reason}"
            return _Reader(loader, out, made, hub_of(made).keys)
        large = export.large
        # float32 holds products of codes and scales as they are
        dtype = str(made.dtype).removeprefix("torch.") if large else "float32"
        return load(out, LIBRARY, dtype=dtype, read=effective, mapped=large)

    def usage(self, export: Export) -> str:
        """How to load it."""
        made = export.checkpoint
        if made.scheme.target == VLLM:
            return 'from vllm import LLM\n\nmodel = LLM("{out}")'
        return transformers_lines(made)


def _check_extras(made: Checkpoint) -> None:
    """Refuse a head or embeddings that transformers ties when it builds the model.

    Raises:
        SpecError: names the group.
    """
    text = made.config.get_text_config()
    for group in made.spec.groups:
        kind = group.linears[0].type
        if kind not in EXTRAS or group.linears[0].name not in made.low:
            continue
        if made.spec.tied or text.is_encoder_decoder:
            why = "are one matrix" if made.spec.tied else "are tied in every T5"
            raise SpecError(
                f"{group.key} is below 16 bits, and transformers does not load packed "
                f"weights for head and embeddings that {why}: give it 16 bits, or "
                f"search without --include {kind}"
            )


def quantization_config(made: Checkpoint) -> dict[str, Any]:
    """What config.json says of the grids: one group for each width and group size."""
    alike: dict[tuple[int, int | None], list[str]] = {}
    columns = {linear.name: linear.in_features for linear in made.spec.linears}
    for name, choice in made.low.items():
        size = made.scheme.columns(columns[name])
        row = size == columns[name]
        alike.setdefault((choice.bits, None if row else size), []).append(name)
    names = [name for name, _ in made.model.module.named_modules() if name]
    groups = {
        f"group_{n}": _group(patterns(alike[key], names), *key, made.scheme.symmetric)
        for n, key in enumerate(sorted(alike, key=lambda key: (key[0], key[1] or 0)))
    }
    left = [name for name in _linears(made) if name not in made.low]
    return {
        "quant_method": LIBRARY,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": patterns(left, names),
    }


def _linears(made: Checkpoint) -> Iterator[str]:
    for name, part in made.model.module.named_modules():
        if isinstance(part, torch.nn.Linear):
            yield name


def _group(
    targets: list[str], bits: int, size: int | None, symmetric: bool
) -> dict[str, Any]:
    """A group of linears with one scheme; a size of None is one scale a row."""
    return {
        "targets": targets,
        "format": FORMAT,
        "input_activations": None,
        "output_activations": None,
        "weights": {
            "num_bits": bits,
            "type": "int",
            "symmetric": symmetric,
            "strategy": "channel" if size is None else "group",
            "group_size": size,
            "dynamic": False,
            "actorder": None,
        },
    }


def _tensors(
    made: Checkpoint, hub: Hub, tick: Callable[[int, int], object]
) -> Iterator[tuple[str, Tensor]]:
    """Everything that is written, one linear at a time."""
    for done, name in enumerate(made.low):
        tick(done, len(made.low))
        key = hub.keys[f"{name}.weight"]
        for part, tensor in packed(made.cell(name), made.scheme.target == VLLM).items():
            yield f"{key}_{part}", tensor
    tick(len(made.low), len(made.low))
    for name, tensor in made.rest():
        yield hub.keys[name], tensor


def packed(cell: Cell, dense: bool) -> dict[str, Tensor]:
    """The tensors of a linear, by what follows `weight_` in their names.

    Args:
        cell: codes [out, in], without an AWQ scale.
        dense: whether words are dense, or padded: see `_words`.

    Returns:
        `packed` int32 [out, words]; `scale` [out, groups]; `zero_point` int32
        [words, groups], packed along the outputs, where it is stored; `shape` int64
        [2].
    """
    found = {
        "packed": to_words(cell.codes, cell.bits, dense=dense),
        "scale": cell.scale,
        "shape": torch.tensor(cell.codes.shape),
    }
    if cell.zero is not None:
        zeros = to_words(cell.zero.T.contiguous(), cell.bits, dense=dense)
        found["zero_point"] = zeros.T.contiguous()
    return found


def effective(module: Any) -> Tensor:
    """Weight of a module as compressed-tensors decompresses it: [out, in] float32.

    Of a module that is packed, without changing it.
    """
    if getattr(module, "weight", None) is not None:
        weight: Tensor = module.weight
        return weight
    from compressed_tensors.compressors import BaseCompressor

    scheme = module.quantization_scheme
    state = dict(module.named_parameters())
    # products take the type of scales
    state["weight_scale"] = state["weight_scale"].float()
    compressor = BaseCompressor.get_value_from_registry(FORMAT)
    found: Tensor = compressor.decompress(state, scheme)["weight"]
    return found


def release_here() -> str | None:
    """The release of compressed-tensors, where there is one."""
    try:
        return version(LIBRARY)
    except PackageNotFoundError:
        return None


def unread(made: Checkpoint, release: str | None) -> str | None:
    """Why a release of compressed-tensors does not read a checkpoint; None: it does."""
    if release is None:
        return f"{LIBRARY} is not installed (pip install '{READS_ALL}')"
    dense = tuple(map(int, release.split(".")[:2])) >= DENSE_SINCE
    if dense and not made.scheme.symmetric:
        return f"{LIBRARY} {release} reads no zero-points (pip install '{READS_ALL}')"
    uneven = any(choice.bits in UNEVEN for choice in made.low.values())
    if uneven and dense != (made.scheme.target == VLLM):
        what = "dense words, as vLLM does" if dense else "padded words"
        return f"at 3, 5 and 6 bits {LIBRARY} {release} reads {what}"
    return None


@dataclass(frozen=True)
class _Reader:
    """What was written, tensor by tensor; see `allocator.core.exporting.Reopened`."""

    loader: str
    out: Path
    made: Checkpoint
    keys: Mapping[str, str]
    tolerance: Tolerance = EXACT

    def weight(self, linear: str) -> Tensor:
        """Effective weight of a linear below 16 bits: [out, in] float32."""
        return dequantize(self._cell(linear))

    def logits(self, samples: object) -> None:
        """None: it does not run."""

    def _cell(self, linear: str) -> Cell:
        dense = self.made.scheme.target == VLLM
        parts = self._parts(self.keys[f"{linear}.weight"])
        bits = self.made.low[linear].bits
        rows, columns = parts["shape"].tolist()
        scale, zero = parts["scale"], None
        if "zero_point" in parts:
            words = parts["zero_point"].T.contiguous()
            zero = from_words(words, bits, rows, dense=dense).T
        return Cell(
            codes=from_words(parts["packed"], bits, columns, dense=dense),
            scale=scale,
            zero=zero,
            columns=columns // scale.shape[1],
            bits=bits,
        )

    def _parts(self, key: str) -> dict[str, Tensor]:
        """The tensors of a linear, by what follows `weight_` in their names."""
        found = {}
        for file in weight_files(self.out):
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118, it is no dictionary
                    if name.startswith(f"{key}_"):
                        part = name.removeprefix(f"{key}_")
                        found[part] = opened.get_tensor(name)
        lacking = {"packed", "scale", "shape"} - found.keys()
        if lacking:
            raise ModelError(f"{self.out} lacks {key}_{min(lacking)}")
        return found


PLUGIN: Exporter = CompressedTensors()
