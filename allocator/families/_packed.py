"""Checkpoints with quantized weights, read by transformers as people load them.

Everything else of a family stays: what is read is cut into stages, asked and scored
like any model. transformers brings quantized weights into place; how they run is the
affair of the library that the checkpoint's quantization_config names.
"""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, in_one_sentence
from allocator.families._checkpoint import quiet
from allocator.families._weights import is_harmless, shown

if TYPE_CHECKING:
    from pathlib import Path

METHOD = "compressed-tensors"


def read_packed(kind: Any, folder: Path, device: str, dtype: str) -> Any:
    """A quantized checkpoint as transformers reads it, for inference.

    Weights of compressed-tensors are decompressed at once: transformers does so when
    the whole model first runs, and stages run its parts alone.

    Args:
        kind: the class in transformers.
        folder: the checkpoint's.
        device: where it is to run.
        dtype: the type of everything that has no codes, in torch's words; scales take
            it too.

    Raises:
        ModelError: it cannot be read, or transformers misses a tensor, has no place for
            one or wants one of another shape.
    """
    import torch

    said = f"{folder} cannot be loaded"
    # compressed-tensors writes a bar whatever transformers is told
    with in_one_sentence(said), quiet(), redirect_stderr(StringIO()):
        module, loaded = kind.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            device_map=device,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            # they are refused below, by name
            ignore_mismatched_sizes=True,
        )
        _refuse(folder, loaded)
        if quantizer(module) == METHOD:
            module.hf_quantizer.compressor.decompress_model(module)
    return module.eval().requires_grad_(False)


def quantizer(module: Any) -> str | None:
    """Name of the library whose weights a module has, as its config.json says it."""
    config = getattr(module.config, "quantization_config", None)
    if config is None:
        return None
    method = config.get("quant_method") if isinstance(config, dict) else None
    method = method or config.quant_method
    return str(getattr(method, "value", method))


def _refuse(folder: Path, loaded: Any) -> None:
    """Refuse what transformers passes over: it makes up what it misses.

    Raises:
        ModelError: names the tensors.
    """
    unknown = [k for k in loaded["unexpected_keys"] if not is_harmless(k)]
    shapes = [name for name, *_ in loaded["mismatched_keys"]]
    faults = {
        "finds no": loaded["missing_keys"],
        "has no place for": unknown,
        "wants another shape of": shapes,
    }
    for said, names in faults.items():
        if names:
            raise ModelError(f"{folder}: transformers {said} {shown(names)}")
    if loaded["error_msgs"]:
        raise ModelError(f"{folder}: transformers says {loaded['error_msgs'][0]}")
