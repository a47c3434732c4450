"""What transformers needs to read weights that auto-round has packed.

As auto-round 0.16.1 does it (`inference/convert_model.py`, `inference/backend.py`).
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

METHOD = "auto-round"
# It multiplies by the weights that are stored, at every width; what it cannot hold is
# an error. Under "auto" a dense layer takes the place of such a linear.
BACKEND = "auto_round:torch"
PACKING = "auto_round"
# its loader makes float16 of any other type
TYPES = ("float16", "bfloat16")


def loading_options(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `from_pretrained` for a checkpoint.

    Raises:
        ModelError: config.json names a type or a packing that is not read.
    """
    from transformers import AutoRoundConfig

    dtype = config.get("dtype") or config.get("torch_dtype")
    if dtype not in TYPES:
        raise ModelError(
            f"{folder}/config.json has dtype {dtype!r}, and auto-round loads "
            f"{' and '.join(TYPES)} alone"
        )
    packing = config["quantization_config"].get("packing_format")
    if packing != PACKING:
        raise ModelError(
            f"{folder}/config.json has packing_format {packing!r}, and of auto-round's "
            f"{PACKING!r} alone is read"
        )
    return {"dtype": dtype, "quantization_config": AutoRoundConfig(backend=BACKEND)}


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Let auto-round end nothing but its own reading.

    Raises:
        ModelError: it would have ended the process, as a linear has no backend.
    """
    try:
        with warnings.catch_warnings():
            # that the backend named here counts, and not the one in config.json
            warnings.filterwarnings("ignore", "You passed `quantization_config`")
            yield
    except SystemExit:
        raise ModelError(
            f"{folder} has a linear that {BACKEND} of auto-round does not hold"
        ) from None


def settle_(module: Any, config: Mapping[str, Any], dtype: str) -> None:
    """Let a module that was read compute in a type, packed linears be like others.

    A type of 32 bits holds all scales too, so weights stay what they are.

    Raises:
        ModelError: a linear that config.json describes is not packed.
    """
    import torch

    packed = {n: m for n, m in module.named_modules() if hasattr(m, "qweight")}
    said = config["quantization_config"].get("extra_config") or {}
    dense = [n for n, e in said.items() if e.get("bits", 16) < 16 and n not in packed]
    if dense:
        raise ModelError(f"auto-round has read {dense[0]} as a dense linear")
    for linear in packed.values():
        linear.in_features, linear.out_features = linear.infeatures, linear.outfeatures
    # transformers itself casts nothing that is quantized
    torch.nn.Module.to(module, getattr(torch, dtype))
