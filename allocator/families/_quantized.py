"""Weights that are quantized already: which folders have them, and who reads them.

A search, a bank and a plan want weights as they were trained. Quantized ones are scored
as they are, by the library that they were packed for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, WIDTHS
from allocator.core.errors import ModelError
from allocator.core.exporting import installed
from allocator.families._weights import SINGLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# in config.json, and files beside it: somebody has quantized these weights
QUANTIZED_KEYS = ("quantization_config", "compression_config", "quantization")
QUANTIZED_FILES = tuple(
    f"{name}_config.json" for name in ("hf_quant", "quantize", "quant")
)
# in config.json: other files that transformers reads in place of those looked at here
ELSEWHERE = ("transformers_weights", "configuration_files", "gguf_file")
COMPRESSED = "compressed-tensors"
# libraries that read quantized weights, and what to install
READERS = {
    COMPRESSED: "compressed-tensors>=0.17,<0.18",
    "auto-round": "auto-round>=0.16.1",
}
# what compressed-tensors may say of weights, and of what is not read
PACKED = {
    "format": ("pack-quantized",),
    "quantization_status": ("compressed",),
    # these take the first group's grid for all weights
    "run_compressed": (None, True),
    "dequantize": (None, False),
}
GRID = {
    "num_bits": tuple(bits for bits in WIDTHS if bits != FULL),
    "type": ("int",),
    "symmetric": (True, False),
    "strategy": ("group", "channel"),
    "dynamic": (False, None),
    "actorder": (None,),
}
UNUSED = (
    *("input_activations", "output_activations"),
    *("kv_cache_scheme", "transform_config"),
)


def check_plain(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder that says of its weights that they are quantized, or elsewhere.

    Raises:
        ModelError: it says so, with the way out.
    """
    _check_place(folder, config)
    for where, part in (("", config), *_parts(config)):
        for key in QUANTIZED_KEYS:
            if part.get(key):
                raise ModelError(
                    f"{folder}/config.json has a {where}{key}{_method(part[key])}: its "
                    "weights are quantized already; take the checkpoint they were made "
                    "from, or dequantize them and take it out"
                )
    for name in QUANTIZED_FILES:
        if (folder / name).is_file():
            raise ModelError(
                f"{folder} has a {name}: its weights are quantized already; take the "
                "checkpoint they were made from, or dequantize them and take it out"
            )


def _check_place(folder: Path, config: Mapping[str, Any]) -> None:
    for key in ELSEWHERE:
        if config.get(key):
            raise ModelError(
                f"{folder}/config.json has {key} {config[key]!r}: only config.json and "
                f"{SINGLE}, or what its index lists, are read; take it out"
            )


def _parts(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"{k}.", v) for k, v in config.items() if isinstance(v, dict)]


def _method(value: object) -> str:
    """The quantizer's name, where a configuration has one."""
    named = value.get("quant_method") if isinstance(value, dict) else None
    return f" of {named!r}" if named else ""


def method_of(config: Mapping[str, Any]) -> str | None:
    """Name of the library that quantized the weights, as config.json has it."""
    said = config.get("quantization_config")
    named = said.get("quant_method") if isinstance(said, dict) else None
    return named if isinstance(named, str) else None


def check_packed(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The library that reads a folder's quantized weights; None: they are plain.

    Raises:
        ModelError: they are quantized otherwise, or the library is not installed.
    """
    method = method_of(config)
    if method not in READERS:
        try:
            check_plain(folder, config)
        except ModelError as error:
            known = " and ".join(READERS)
            said = f"{error}; of quantized weights, those of {known} are scored"
            raise ModelError(said) from None
        return None
    _check_place(folder, config)
    if installed(method) is None:
        raise ModelError(
            f"{folder} has weights that {method} reads, which is not installed: "
            f"pip install '{READERS[method]}'"
        )
    if method == COMPRESSED:
        _check_compressed(folder, config["quantization_config"])
    return method


def _check_compressed(folder: Path, said: Mapping[str, Any]) -> None:
    """Refuse what is more than weights in integers, or codes that cannot be told.

    compressed-tensors would read codes of 8 bits as 7 without a word: as many fit into
    a word.

    Raises:
        ModelError: names the setting.
    """
    groups = said.get("config_groups")
    if not isinstance(groups, dict) or not all(map(_has_grid, groups.values())):
        raise ModelError(f"{folder}/config.json has no config_groups with weights")
    asked: dict[str, Any] = {key: said.get(key) for key in (*PACKED, *UNUSED)}
    for name, group in groups.items():
        asked |= {f"{name}.{key}": group.get(key) for key in UNUSED if key in group}
        asked |= {f"{name}.weights.{key}": group["weights"].get(key) for key in GRID}
    for key, value in asked.items():
        allowed = {**PACKED, **GRID}.get(key.rpartition(".")[2], (None,))
        if value not in allowed:
            raise ModelError(
                f"{folder}/config.json has {key} {value!r} in its quantization_config, "
                f"where only {', '.join(map(repr, allowed))} can be read"
            )


def _has_grid(group: object) -> bool:
    return isinstance(group, dict) and isinstance(group.get("weights"), dict)
