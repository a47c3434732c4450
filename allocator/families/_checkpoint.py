"""What every family shares: reading checkpoints.

torch and transformers are imported inside the functions, so that naming the families
costs nothing.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MOST_BLOCKS = 1_000
# characters of another library's message
LONGEST_REASON = 400


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        ModelError: the folder has none, or it is not JSON.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, RecursionError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} names no model_type")
    _check_depth(file, config)
    return config


def _check_depth(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse a number of blocks that no model has: building them would never end."""
    for key, value in config.items():
        if isinstance(value, dict):
            _check_depth(file, value)
        counts = "layers" in key or key == "depth"
        if counts and isinstance(value, int) and value > MOST_BLOCKS:
            raise ModelError(f"{file}: {key} {value} is over {MOST_BLOCKS}")


def part_of_config(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A component's part of a configuration; empty where there is none."""
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def check_weights(folder: Path) -> tuple[Path, ...]:
    """Safetensors files of a checkpoint, each opened once to see that it is whole.

    Raises:
        ModelError: there is none, one listed in the index is missing, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            listed = set(json.loads(index.read_text())["weight_map"].values())
            files = tuple(folder / name for name in sorted(listed))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{index} lists no weights: {error}") from None
    else:
        files = (folder / "model.safetensors",)
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"{folder} lacks {file.name}: only safetensors weights are loaded"
            )
        if not os.access(file, os.R_OK):
            raise ModelError(f"{file} may not be read: its permissions forbid it")
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file} is damaged or cut short ({error}): copy it again"
            ) from None
    return files


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars and advice off the user's screen."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    with ExitStack() as stack:
        stack.callback(logging.set_verbosity, before)
        if logging.is_progress_bar_enabled():
            stack.callback(logging.enable_progress_bar)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield


def model_class(name: str) -> Any:
    """A class of transformers."""
    import transformers

    return getattr(transformers, name)


def build_on_meta(kind: Any, folder: Path) -> Any:
    """A model without weights, from the configuration alone.

    Raises:
        ModelError: transformers cannot build what config.json describes.
    """
    import torch
    from transformers import AutoConfig

    try:
        with quiet(), torch.device("meta"):
            return kind(AutoConfig.from_pretrained(folder))
    except Exception as error:
        # what a wrong config.json raises depends on which part of it is wrong
        raise ModelError(
            f"{folder}/config.json describes no model: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    """The first line of what a library says, or the beginning of it."""
    line = first_line(error) or type(error).__name__
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} ..."


def read_checkpoint(
    kind: Any, folder: Path, device: str, *, mapped: bool = False
) -> Any:
    """Load weights for inference: fp32 on a CPU, the stored type on an accelerator.

    Mapped, they are views of the checkpoint's files: safetensors maps a file, and
    transformers copies a tensor only to change its type. Read in the type they are
    stored in, weights take no memory of ours.

    Raises:
        ModelError: the weights do not fit the configuration or cannot be read.
    """
    import torch

    files = check_weights(folder)
    if mapped:
        return _read(kind, folder, _stored_type(files))
    dtype = torch.float32 if device.startswith("cpu") else "auto"
    return _read(kind, folder, dtype).to(device)


def _stored_type(files: Sequence[Path]) -> Any:
    """The floating point type that most tensors of a checkpoint have."""
    from safetensors import safe_open

    found: Counter[Any] = Counter()
    for file in files:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            # one look a file: a tensor is mapped, not read
            found.update(opened.get_tensor(name).dtype for name in names)
    floating = [dtype for dtype, _ in found.most_common() if dtype.is_floating_point]
    return floating[0] if floating else "auto"


def _read(kind: Any, folder: Path, dtype: Any) -> Any:
    from safetensors import SafetensorError

    try:
        with quiet():
            module, loaded = kind.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                # they are refused below, by name
                ignore_mismatched_sizes=True,
            )
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{folder} cannot be loaded: {_reason(error)}") from None
    if other := sorted(key for key, *_ in loaded["mismatched_keys"]):
        raise ModelError(
            f"{folder} has {len(other)} weights of another shape than its config.json "
            f"says, {other[0]} among them"
        )
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} weights, {missing[0]} among them"
        )
    return module.eval().requires_grad_(False)
