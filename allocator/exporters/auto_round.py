"""AutoRound's format: transformers with auto-round keeps it packed while it runs.

Layout and limits are those of auto-round 0.16.1: the class that runs a linear
(`auto_round_extension/torch/qlinear_torch.py`), what it asks of one ("auto_round:torch"
in `inference/backend.py`), how linears are found (`inference/convert_model.py`). What
lies beyond becomes a dense layer of random weights, and only a warning says so.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from allocator.core.errors import ModelError, SpecError
from allocator.core.exporting import EXACT, NO_OPTIONS, Tolerance, installed
from allocator.exporters._experts import check_experts
from allocator.exporters._hub import hub_of
from allocator.exporters._loaded import load
from allocator.exporters._shards import tensor_bytes, write_shards
from allocator.exporters._words import from_words, to_words
from allocator.families import weight_files
from quant.grid import Grid, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.exporting import Exporter, Reopened
    from allocator.core.ports import Sample
    from allocator.core.spec import Linear
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export
    from quant.grid import Cell

LIBRARY = "auto-round"
KINDS = ("qweight", "qzeros", "scales")
# inputs and outputs of a linear: its codes and zero-points fill whole words
MULTIPLE = 32
# Loading takes a tensor of three dimensions, here the query tokens, for the weights of
# experts (`modeling/fused_moe/moe_experts_interface.py`), and then misses it.
EXPERTS = "its loader takes the experts of a block apart, and was not tried with them"
UNREAD = {"blip2": "it takes the query tokens for the weights of experts"}


class AutoRound:
    """Writes `qweight`, `qzeros` and `scales` for each linear below 16 bits."""

    description = "AutoRound's packed weights, for transformers with auto-round"

    options = NO_OPTIONS

    def loader(self) -> str | None:
        """Transformers, where auto-round is installed."""
        return installed("transformers", LIBRARY)

    def layout(self, export: Export) -> str:
        """Its own, whatever the target."""
        del export
        return LIBRARY

    def check(self, export: Export) -> None:
        """Refuse what would not be read as packed linears.

        Raises:
            SpecError: names it, and what would do.
        """
        made = export.checkpoint
        if reason := UNREAD.get(made.family):
            raise SpecError(
                f"auto-round does not load models of family {made.family}: {reason}; "
                "export compressed-tensors"
            )
        if made.scheme.group_size == "tensor":
            raise SpecError(
                "auto-round reads a scale for each row or group, none for a matrix: "
                "search with another --group-size than tensor"
            )
        check_experts(made, LIBRARY, EXPERTS)
        for linear in made.spec.linears:
            if linear.name in made.low:
                _check_linear(linear, tied=made.spec.tied)

    def write(
        self, export: Export, out: Path, tick: Callable[[int, int], object]
    ) -> None:
        """Write the checkpoint into an empty folder.

        Raises:
            SpecError: a scale that float16 does not hold.
            ModelError: names or files of the source that cannot be carried over.
        """
        made = export.checkpoint
        hub = hub_of(made)
        write_shards(out, _tensors(made, hub.keys, tick))
        hub.write(out, {"quantization_config": quantization_config(made)})

    def stored(self, out: Path) -> int:
        """Bytes of all tensors in its files."""
        return tensor_bytes(out)

    def reopen(self, export: Export, out: Path) -> Reopened:
        """Read it through transformers with auto-round, or else the files alone.

        Raises:
            ModelError: a tensor is missing, unknown or of another shape, or a linear is
                not packed.
        """
        made = export.checkpoint
        if self.loader() is None:
            return _Reader(out, made, hub_of(made).keys)
        # float32 holds products of codes and scales as they are
        dtype = made.scheme.scales if export.large else "float32"
        return load(out, LIBRARY, dtype=dtype, read=unpacked, mapped=export.large)

    def usage(self, export: Export) -> str:
        """Python that loads it."""
        del export
        return (
            "# with auto-round beside transformers: pip install auto-round\n"
            "from transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
            'processor = AutoProcessor.from_pretrained("{out}")\n'
            'model = AutoModelForImageTextToText.from_pretrained("{out}")\n'
        )


def _check_linear(linear: Linear, *, tied: bool) -> None:
    if linear.type == "embeddings" or (linear.type == "head" and tied):
        raise SpecError(
            f"auto-round packs no embeddings, and those in {linear.name} are below 16 "
            f"bits: pin their group to 16, or search without --include {linear.type}"
        )
    sizes = {"inputs": linear.in_features, "outputs": linear.out_features}
    for kind, size in sizes.items():
        if size % MULTIPLE:
            raise SpecError(
                f"{linear.name} has {size} {kind}, and auto-round packs multiples of "
                f"{MULTIPLE} alone: pin its group to 16, or export compressed-tensors"
            )


def quantization_config(made: Checkpoint) -> dict[str, Any]:
    """What config.json says of the weights: every linear by its module's name.

    Those at 16 bits are named too: others in their rows of blocks have codes.
    """
    names = [
        name
        for name, module in made.model.module.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    widths = Counter(choice.bits for choice in made.low.values())
    common = {
        "bits": widths.most_common(1)[0][0] if widths else 4,
        "group_size": _group_size(made.scheme.group_size),
        "sym": made.scheme.symmetric,
        "data_type": "int",
    }
    inputs = {linear.name: linear.in_features for linear in made.spec.linears}
    each = {
        name: {
            **common,
            "bits": made.low[name].bits,
            "group_size": _group_size(made.scheme.group_size_of(inputs[name])),
        }
        if name in made.low
        else {"bits": 16}
        for name in names
    }
    return {
        "quant_method": LIBRARY,
        "packing_format": "auto_round",
        **common,
        "block_name_to_quantize": ",".join(_rows_of_blocks(made.low)),
        "extra_config": each,
    }


def _group_size(size: int | str) -> int:
    """As auto-round has it: -1 for one scale a row."""
    return size if isinstance(size, int) else -1


def _rows_of_blocks(names: Mapping[str, Any]) -> list[str]:
    """What stands before the number of a block, each once."""
    parts = (re.match(r"(.+?)\.\d+\.", name) for name in names)
    rows = dict.fromkeys(part[1] for part in parts if part)
    # with nothing to look in, auto-round would look everywhere
    return list(rows or names)


def _tensors(
    made: Checkpoint, keys: Mapping[str, str], tick: Callable[[int, int], object]
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the checkpoint under its name in the file."""
    for name, tensor in made.rest():
        yield keys[name], tensor
    for done, name in enumerate(made.low):
        tick(done, len(made.low))
        begin = keys[f"{name}.weight"].removesuffix("weight")
        for kind, tensor in packed(name, made.cell(name)).items():
            yield f"{begin}{kind}", tensor
    tick(len(made.low), len(made.low))


def packed(name: str, cell: Cell) -> dict[str, Tensor]:
    """The tensors that stand for a linear of [out, in].

    Returns:
        `qweight` [in * bits / 32, out] int32, each column a stream of codes; `qzeros`
        [groups, out * bits / 32] int32, each row one of zero-points; `scales`
        [groups, out] float16.

    Raises:
        SpecError: a scale that float16 does not hold.
    """
    scales = cell.scale.half()
    if not torch.equal(scales.float(), cell.scale.float()):
        raise SpecError(
            f"auto-round keeps scales in float16, which does not hold all of {name}: "
            "pin its group to 16, or export compressed-tensors"
        )
    zeros = cell.zero_point.to(torch.uint8)
    return {
        "qweight": to_words(cell.codes, cell.bits, dense=True).t().contiguous(),
        "qzeros": to_words(zeros.t(), cell.bits, dense=True),
        "scales": scales.t().contiguous(),
    }


def unpacked(module: Any) -> Tensor:
    """Weight [out, in] float32 of a packed linear, by auto-round's own unpacking.

    Raises:
        ModelError: the module is not packed.
    """
    unpack_bitstream = import_module("auto_round.utils.bit_packing").unpack_bitstream
    if not hasattr(module, "qweight"):
        raise ModelError(
            f"auto-round has read {type(module).__name__}, no packed linear"
        )
    codes = unpack_bitstream(module.qweight, module.bits, dim=0)
    zeros = unpack_bitstream(module.qzeros, module.bits, dim=1)
    size = codes.shape[0] // zeros.shape[0]
    steps = codes - zeros.repeat_interleave(size, 0)
    weight: Tensor = steps * module.scales.float().repeat_interleave(size, 0)
    return weight.t()


@dataclass(frozen=True)
class _Reader:
    """What was written, as its files have it; see `allocator.core.exporting`."""

    folder: Path
    made: Checkpoint
    keys: Mapping[str, str]
    loader: str = "this program's own reader: auto-round is not installed"
    tolerance: Tolerance = EXACT

    def weight(self, linear: str) -> Tensor:
        """Weight of a linear as its tensors say it: [out, in] float32.

        Raises:
            ModelError: one is missing.
        """
        begin = self.keys[f"{linear}.weight"].removesuffix("weight")
        words, zeros, scales = (self._stored(f"{begin}{kind}") for kind in KINDS)
        bits, (groups, out) = self.made.low[linear].bits, scales.shape
        columns = words.shape[0] * MULTIPLE // bits
        codes = from_words(words.t(), bits, columns, dense=True)
        zeros = from_words(zeros, bits, out, dense=True).t()
        size = columns // groups
        grid = Grid(scale=scales.t(), zero=zeros, columns=size, bits=bits)
        return decode(codes, grid)

    def logits(self, samples: Sequence[Sample]) -> None:
        """None: it only reads."""
        del samples

    def _stored(self, key: str) -> Tensor:
        for file in weight_files(self.folder):
            with safe_open(file, framework="pt") as opened:
                if key in opened.keys():  # noqa: SIM118, it is no dictionary
                    tensor: Tensor = opened.get_tensor(key)
                    return tensor
        raise ModelError(f"{self.folder} has no tensor {key}")


PLUGIN: Exporter = AutoRound()
