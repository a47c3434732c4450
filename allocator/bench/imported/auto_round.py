"""AutoRound: the layer config of AutoScheme, or a checkpoint's quantization_config.

As auto-round 0.16.1 writes them (`export/export_to_autoround/export.py`) and reads
them again (`inference/convert_model.py`, `inference/utils.py`): names first, then
regular expressions found anywhere in a name, then the scheme of the whole for the
linears of `block_name_to_quantize`. A layer config has names, parts of names, or
expressions (`compressors/layer_config_resolver.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from allocator.bench.imported._said import (
    Pattern,
    Rule,
    Said,
    Wanted,
    listed,
    object_of,
    overridden,
    quantization_config,
    typed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.bench.imported._said import Reader

TOOL = "AutoRound"
# schemes.py: what a layer has of its own
KEYS = {"bits", "sym", "data_type"}
BITS = 4
# of an expression: `to_standard_regex` of utils/common.py
SIGNS = (".*", "^", "$", "|", "(", ")", "[", "]", "?", "+")


class AutoRound:
    """Reads `{layer: {"bits": 4, ...}}` and `extra_config`."""

    description = (
        "AutoRound's layer config or quantization_config (bits, extra_config of layers)"
    )

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether this is AutoRound's."""
        config = quantization_config(data)
        if str(config.get("quant_method", "")).endswith("auto-round"):
            return True
        dynamic = any(name.startswith(("+:", "-:")) for name in data)
        layers = [own for own in data.values() if isinstance(own, dict)]
        named = 0 < len(layers) == len(data) and not dynamic
        return named and any(KEYS & own.keys() for own in layers)

    def said(self, data: Mapping[str, Any]) -> Said:
        """What is said of layers, and of the blocks around them."""
        config = quantization_config(data)
        if "quant_method" not in config:
            rules = tuple(_of_layer(name, own) for name, own in data.items())
            return Said(TOOL, rules, ordered=False)
        whole = overridden(Wanted(BITS), config, "the model")
        blocks = tuple(_blocks(config.get("block_name_to_quantize")))
        extra = object_of(config.get("extra_config"), "extra_config")
        wanted = {name: overridden(whole, own, name) for name, own in extra.items()}
        # names come before what is found in them; a name is found in itself, too
        named = [
            Rule(Pattern("exact", name), own, optional=True)
            for name, own in wanted.items()
        ]
        parts = [
            Rule(Pattern("search", name), own, blocks) for name, own in wanted.items()
        ]
        return Said(TOOL, (*named, *parts, *(Rule(each, whole) for each in blocks)))


def _of_layer(name: str, own: Mapping[str, Any]) -> Rule:
    """What a layer config says under one key: a name, or what is found in names."""
    if own.get("bits") is None:
        raise ValueError(f"{name} has no bits; save the layer config AutoRound returns")
    expression = any(sign in name for sign in SIGNS)
    # dots of a name stand for themselves as well as for any sign
    plain = name.removesuffix(".weight")
    text = re.sub(r"\.(?!\*)", r"\\.", name) if expression else plain
    return Rule(Pattern("search", text), overridden(Wanted(BITS), own, name))


def _blocks(value: Any) -> list[Pattern]:
    """Beginnings of the names that the whole is said of; None: every block."""
    if value is None:
        return [Pattern("blocks", "")]
    names = value.split(",") if isinstance(value, str) else value
    found = [
        name.strip()
        # blocks may be listed one by one
        for several in typed(names, "block_name_to_quantize", list)
        for name in listed(several, "block_name_to_quantize")
    ]
    return [Pattern("start", name) for name in dict.fromkeys(found) if name]


PLUGIN: Reader = AutoRound()
