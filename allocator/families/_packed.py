"""Checkpoints with quantized weights, read by transformers as people load them.

Everything else of a family stays: what is read is cut into stages, asked and scored
like any model. transformers brings quantized weights into place; how they run is the
affair of the library that the checkpoint's quantization_config names.
"""

from __future__ import annotations

from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, in_one_sentence
from allocator.families import _auto_round
from allocator.families._checkpoint import quiet, read_config
from allocator.families._generation import ADVICE
from allocator.families._modules import generation_config
from allocator.families._quantized import check_packed, method_of
from allocator.families._weights import is_harmless, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# what stands in the place of a weight, in compressed-tensors and AutoRound
PACKED = ("weight_packed", "qweight")
# what compressed-tensors keeps beside a weight that it has decompressed
STORED = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")


def read_packed(
    kind: Any, folder: Path, device: str, dtype: str, *, mapped: bool = False
) -> Any:
    """A quantized checkpoint as transformers reads it, for inference.

    Weights of compressed-tensors are decompressed at once: transformers does so when
    the whole model first runs, and stages run its parts alone. Mapped, they stay packed
    in the checkpoint's files, and the model cannot run. Those of auto-round run packed.

    Args:
        kind: the class in transformers.
        folder: the checkpoint's.
        device: where it is to run.
        dtype: the type of everything that has no codes, in torch's words; scales take
            it too. Tensors of that type are mapped.
        mapped: whether weights are to be looked at only.

    Raises:
        ModelError: it cannot be read, or transformers misses a tensor, has no place for
            one or wants one of another shape.
    """
    import torch

    config = read_config(folder)
    options = {"dtype": getattr(torch, dtype)}
    if method_of(config) == _auto_round.METHOD:
        options = _auto_round.loading_options(folder, config)
    said = f"{folder} cannot be loaded"
    with in_one_sentence(said), _undisturbed(folder):
        module, loaded = kind.from_pretrained(
            folder,
            **options,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            # they are refused below, by name
            ignore_mismatched_sizes=True,
        )
        _refuse(folder, loaded)
        if method_of(config) == _auto_round.METHOD:
            _auto_round.settle_(module, config, dtype)
        elif not mapped:
            module.hf_quantizer.compressor.decompress_model(module)
        if module.can_generate() and (folder / ADVICE).is_file():
            module.generation_config = generation_config(folder)
    return module.eval().requires_grad_(False).to(device)


def packed_by(folder: Path) -> str | None:
    """The library that reads a folder's quantized weights; None: they are plain.

    Raises:
        ModelError: no model folder; weights that are quantized otherwise, or whose
            library is not installed.
    """
    return check_packed(folder, read_config(folder))


def packed_type(folder: Path, device: str) -> str:
    """The type in which a quantized folder runs on a device, in torch's words.

    fp32 on a CPU, else that of config.json.
    """
    config = read_config(folder)
    said = config.get("dtype") or config.get("torch_dtype")
    return "float32" if device.startswith("cpu") or not said else str(said)


def parameters_of(module: Any) -> int:
    """Parameters that a module stands for, whatever stores them, tied ones once."""
    packed = [m for m in module.modules() if hasattr(m, "qweight")]
    codes = sum(m.in_features * m.out_features for m in packed)
    # what is a buffer there is a parameter everywhere else
    biases = sum(m.bias.numel() for m in packed if m.bias is not None)
    kept = (
        parameter.numel()
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2] not in STORED
    )
    return int(codes + biases + sum(kept))


@contextmanager
def _undisturbed(folder: Path) -> Iterator[None]:
    """Keep what is read from being initialized, and libraries off the screen."""
    # compressed-tensors writes a bar whatever transformers is told
    unheard = redirect_stderr(StringIO())
    with quiet(), _read_as_packed(), unheard, _auto_round.reading(folder):
        yield


@contextmanager
def _read_as_packed() -> Iterator[None]:
    """Let transformers pass over packed weights where it initializes what is missing.

    It goes through all modules, and those of SigLIP and T5 ask for each `weight`
    (transformers 5.24, `_init_weights` of `SiglipPreTrainedModel`, `T5PreTrainedModel`;
    CLIP did: https://github.com/huggingface/transformers/issues/47920). Nothing is
    missing of a checkpoint that is not refused.
    """
    from transformers import PreTrainedModel

    initialize = PreTrainedModel._initialize_weights

    def careful(self: Any, module: Any, *more: Any) -> None:
        try:
            initialize(self, module, *more)
        except AttributeError:
            parts = (module, *module.children())
            if not any(hasattr(part, name) for part in parts for name in PACKED):
                raise

    PreTrainedModel._initialize_weights = careful
    try:
        yield
    finally:
        PreTrainedModel._initialize_weights = initialize


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
