"""MLX: a folder that mlx-vlm loads, weights packed as MLX packs them.

Of each linear below 16 bits there are `weight` (uint32: every row is one stream of
codes, the first in the lowest bits), `scales` and `biases`, one of each for a group.
MLX multiplies by code * scale + bias, so a bias is -zero * scale; that has more digits
than fp16, so both are fp32 unless asked otherwise. config.json says bits and group size
by the paths of modules in mlx-vlm. Read in mlx 0.32.4, `mlx/nn/layers/quantized.py`,
and mlx-vlm 0.7.10, `mlx_vlm/utils.py`, `load_model_weights`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.ports import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Exporter, Reopened
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export
    from quant.grid import Cell

# of `mx.quantize`: others are refused by its kernels
GROUP_SIZES = (32, 64, 128)
SCALES = ("fp32", "fp16")
ASKED = "What colour is this?"


class Mlx:
    """Writes what mlx-vlm loads."""

    description = "a folder for mlx-vlm, weights packed as MLX packs them"
    options: Mapping[str, tuple[str, ...]] = {"scales": SCALES}

    def layout(self, target: str, options: Mapping[str, Any] | None = None) -> str:
        """MLX's, whatever a search has counted."""
        del target
        half = (options or {}).get("scales") == "fp16"
        return "mlx-fp16" if half else "mlx"

    def check(self, export: Export) -> None:
        """Refuse a model that mlx-vlm runs otherwise, and grids that MLX has not.

        Raises:
            SpecError: says which part, why, and what would do.
        """
        from allocator.exporters._mlx_models import check_settings, path_of

        asked = export.options.get("scales", SCALES[0])
        if asked not in SCALES:
            raise SpecError(f"scales {asked!r} are not one of {', '.join(SCALES)}")
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

    def write(
        self, export: Export, out: Path, tick: Callable[[int, int], object]
    ) -> None:
        """Write weights, config.json and everything else that a checkpoint has."""
        from allocator.exporters._hub import hub_of
        from allocator.exporters._shards import write_shards

        made = export.checkpoint
        hub = hub_of(made)
        write_shards(out, _tensors(export, tick))
        grids = _grids(made)
        said: dict[str, Any] = {"group_size": 64, "bits": 4, "mode": "affine"}
        for path, (bits, size) in grids.items():
            said[path] = {"group_size": size, "bits": bits, "mode": "affine"}
        config = {**hub.config, "quantization": said, "quantization_config": said}
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        hub.copy(out)

    def stored(self, out: Path) -> int:
        """Bytes of all tensors."""
        from allocator.exporters._shards import tensor_bytes

        return tensor_bytes(out)

    def reopen(self, export: Export, out: Path) -> Reopened:
        """Load it in mlx-vlm where there is one, or read it otherwise.

        Raises:
            ModelError: mlx-vlm does not load it, or other linears than were written.
        """
        from allocator.exporters._mlx_reopened import (
            InRuntime,
            Read,
            Runtime,
            runtime_python,
        )

        made, python = export.checkpoint, runtime_python()
        if python is None:
            return Read(out, _paths(made), _grids(made))
        found = InRuntime(Runtime(python, out), made.model, _paths(made))
        found.check(_grids(made))
        return found

    def usage(self, export: Export) -> str:
        """A question about a picture, asked as this model was asked when measured."""
        from pathlib import Path

        model: Any = export.checkpoint.model
        kind = "vqa" if "vqa" in model.kinds else model.kinds[0]
        asked = Sample("", Path(), kind, ASKED, ())
        # the tokenizer puts the first token before it
        start = model.processor.tokenizer.bos_token or ""
        prompt = model.worded(asked).removeprefix(start)
        return "\n".join(
            [
                "from mlx_vlm import generate, load",
                "from PIL import Image",
                "",
                'model, processor = load("{out}")',
                'picture = Image.new("RGB", (64, 64), "red")',
                f"inputs = processor(images=[picture], text={prompt!r})",
                "greedy = {'temperature': 0.0, 'max_tokens': 20}",
                'print(generate(model, processor, "", **inputs, **greedy).text)',
            ]
        )


def _paths(made: Checkpoint) -> dict[str, str]:
    """Paths in mlx-vlm of the linears below 16 bits, by full name."""
    from allocator.exporters._mlx_models import path_of

    return {name: path_of(made.config.model_type, name) for name in made.low}


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
    from allocator.exporters._mlx_models import path_of

    made = export.checkpoint
    kind = made.config.model_type
    half = export.options.get("scales") == "fp16"
    for done, (name, path) in enumerate(_paths(made).items()):
        tick(done, len(made.low))
        for part, value in parts(made.cell(name), name, half=half).items():
            yield f"{path}.{part}", value
    for name, value in made.rest():
        # of convolutions MLX wants the channels behind
        last = value.movedim(1, -1) if value.dim() > 3 else value
        yield path_of(kind, name), last
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
    import torch

    from quant.packing import pack

    rows = pack(cell.codes, cell.bits).view(len(cell.codes), -1)
    scales = cell.scale.float()
    found = {"scales": scales, "biases": -(cell.zero_point * scales)}
    if half:
        found = {part: value.half() for part, value in found.items()}
        zero = found["scales"] == 0
        if not bool(found["biases"].isfinite().all()) or bool(zero.any()):
            raise SpecError(f"mlx cannot hold {name} with fp16 scales: some are beyond")
    return {"weight": rows.view(torch.int32).view(torch.uint32), **found}


PLUGIN: Exporter = Mlx()
