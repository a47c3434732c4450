"""MLX: a folder that mlx-vlm loads, weights packed as MLX packs them.

Of each linear below 16 bits there are `weight` (uint32: every row is one stream of
codes, the first in the lowest bits), `scales` and `biases`, one of each for a group.
MLX multiplies by code * scale + bias, so a bias is -zero * scale; that has more digits
than fp16, so both are fp32 unless asked otherwise. config.json says bits and group size
by the paths of modules in mlx-vlm. Read in mlx 0.32.4, `mlx/nn/layers/quantized.py`,
and mlx-vlm 0.7.10, `mlx_vlm/utils.py`, `load_model_weights`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.errors import SpecError
from allocator.core.exporting import Tolerance, installed
from allocator.core.ports import Sample
from allocator.exporters._hub import hub_of
from allocator.exporters._mlx_models import check_settings, path_of
from allocator.exporters._mlx_reopened import InRuntime, Read, Runtime, runtime_python
from allocator.exporters._shards import tensor_bytes, write_shards
from allocator.exporters._words import to_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from allocator.core.exporting import Exporter, Reopened
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export
    from quant.grid import Cell

# of `mx.quantize`: others are refused by its kernels
GROUP_SIZES = (32, 64, 128)
EXACT, HALF = "fp32", "fp16"
# fp16 rounds a number by up to 2**-11 of it, and a bias has up to so many steps
HALF_STEPS = (2**8 - 1) / 2**11
QUESTION = "What colour is this?"


class Mlx:
    """Writes what mlx-vlm loads."""

    description = "a folder for mlx-vlm, weights packed as MLX packs them"
    options: Mapping[str, tuple[str, ...]] = {"scales": (EXACT, HALF)}

    def loader(self) -> str | None:
        """The library mlx-vlm, in this Python or in the one that is named."""
        python = runtime_python()
        here = installed("mlx-vlm", "mlx")
        return here or (None if python is None else f"mlx-vlm of {python}")

    def layout(self, export: Export) -> str:
        """MLX's, whatever the search has counted."""
        return "mlx-fp16" if _half(export) else "mlx"

    def check(self, export: Export) -> None:
        """Refuse a model that mlx-vlm runs otherwise, and grids that MLX has not.

        Raises:
            SpecError: says which part, why, and what would do.
            ModelError: see `hub_of`.
        """
        made = export.checkpoint
        check_settings(made.config)
        for name, _ in made.model.module.named_parameters():
            path_of(made.config.model_type, name)
        for path, (_, size) in _grids(made).items():
            if size not in GROUP_SIZES or made.scheme.group_size == "tensor":
                raise SpecError(
                    f"mlx cannot hold {path}: {size} of its inputs share a scale, and "
                    f"MLX has groups of {', '.join(map(str, GROUP_SIZES))}; search "
                    "with --target mlx, which leaves such linears at 16 bits"
                )
        hub_of(made)

    def write(
        self, export: Export, out: Path, tick: Callable[[int, int], object]
    ) -> None:
        """Write weights, config.json and everything else that a checkpoint has."""
        made = export.checkpoint
        hub = hub_of(made)
        # for modules that are not named, of which there are none
        said: dict[str, Any] = {"group_size": 64, "bits": 4, "mode": "affine"}
        for path, (bits, size) in _grids(made).items():
            said[path] = {"group_size": size, "bits": bits, "mode": "affine"}
        hub.write(out, {"quantization": said, "quantization_config": said})
        write_shards(out, _tensors(export, tick))

    def stored(self, out: Path) -> int:
        """Bytes of all tensors."""
        return tensor_bytes(out)

    def reopen(self, export: Export, out: Path) -> Reopened:
        """Load it in mlx-vlm where there is one, or read it otherwise.

        Raises:
            ModelError: mlx-vlm does not load it, or other linears than were written.
        """
        made, python = export.checkpoint, runtime_python()
        tolerance = Tolerance(logits=1e-4)
        if _half(export):
            tolerance = Tolerance(weights=HALF_STEPS, logits=2e-2)
        paths, grids = _paths(made), _grids(made)
        if python is None:
            return Read(out, paths, grids, tolerance)
        runtime = Runtime(python, out)
        found = InRuntime(runtime, made.model, paths, tolerance, export.large)
        found.check(grids)
        return found

    def usage(self, export: Export) -> str:
        """A question about a picture, worded as when this model was measured.

        The processor is called apart: that of LLaVA in mlx-vlm 0.7.10 refuses what
        `generate` hands to it (https://github.com/Blaizzy/mlx-vlm/issues/870).
        """
        model: Any = export.checkpoint.model
        kind = "vqa" if "vqa" in model.kinds else model.kinds[0]
        prompt = model.worded(Sample("", Path(), kind, QUESTION, ()))
        # the tokenizer puts the first token before it
        prompt = prompt.removeprefix(model.processor.tokenizer.bos_token or "")
        return (
            "from mlx_vlm import generate, load\n"
            "from PIL import Image\n\n"
            'model, processor = load("{out}")\n'
            'picture = Image.new("RGB", (64, 64), "red")\n'
            f"asked = processor(images=[picture], text={prompt!r})\n"
            'more = {"mask": asked["attention_mask"], "temperature": 0.0, **asked}\n'
            'print(generate(model, processor, "", **more).text)'
        )


def _half(export: Export) -> bool:
    """Whether scales and biases are fp16."""
    return export.options.get("scales") == HALF


def _paths(made: Checkpoint) -> dict[str, str]:
    """Paths in mlx-vlm of the linears below 16 bits, by full name.

    A head that is one matrix with the embeddings is read from these.
    """
    module = made.model.module
    head, words = module.get_output_embeddings(), module.get_input_embeddings()
    tied = head is not None and head.weight is words.weight
    names = {each: name for name, each in module.named_modules()}
    stored = {names[head]: names[words]} if tied else {}
    kind = made.config.model_type
    return {name: path_of(kind, stored.get(name, name)) for name in made.low}


def _grids(made: Checkpoint) -> dict[str, tuple[int, int]]:
    """Bits and group size of the linears below 16 bits, by path."""
    inputs = {linear.name: linear.in_features for linear in made.spec.linears}
    paths = _paths(made)
    return {
        paths[name]: (choice.bits, made.scheme.columns(inputs[name]))
        for name, choice in made.low.items()
    }


def _tensors(
    export: Export, tick: Callable[[int, int], object]
) -> Iterator[tuple[str, Tensor]]:
    """Everything that is stored, by its name in mlx-vlm."""
    made, half = export.checkpoint, _half(export)
    for done, (name, path) in enumerate(_paths(made).items()):
        tick(done, len(made.low))
        for part, value in parts(made.cell(name), name, half=half).items():
            yield f"{path}.{part}", value
    for name, value in made.rest():
        # of convolutions MLX wants the channels behind
        last = value.movedim(1, -1) if value.dim() > 3 else value
        yield path_of(made.config.model_type, name), last
    tick(len(made.low), len(made.low))


def parts(cell: Cell, name: str, *, half: bool = False) -> dict[str, Tensor]:
    """`weight`, `scales` and `biases` of a cell.

    Args:
        cell: of a linear, its groups multiples of 32.
        name: of the linear, for messages.
        half: whether scales and biases are fp16, and so not exact.

    Raises:
        SpecError: they are beyond fp16.
    """
    scales = cell.scale.float()
    found = {"scales": scales, "biases": -(cell.zero_point * scales)}
    if half:
        found = {part: value.half() for part, value in found.items()}
        within = found["biases"].isfinite() & (found["scales"] > 0)
        if not bool(within.all()):
            raise SpecError(
                f"mlx cannot hold {name} with fp16 scales: some are beyond what fp16 "
                "can be; write fp32 ones"
            )
    words = to_words(cell.codes, cell.bits, dense=True)
    return {"weight": words.view(torch.uint32), **found}


PLUGIN: Exporter = Mlx()
