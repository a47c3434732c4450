"""GPTQModel: a `dynamic` block, alone or in a quantize_config.json or config.json.

As `dynamic_get` of GPTQModel (`quantization/config.py`) reads it: expressions
from the beginning of a name, "-:" before those that stay as they are, "+:" or nothing
before others; the first that matches counts. What none matches has the bits of the
whole, in the blocks of the language model: others are no part of its model trees.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.bench.imported._said import (
    AS_IT_IS,
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

TOOL = "GPTQModel"
SKIPPED, QUANTIZED = "-:", "+:"
# other methods of it (`METHOD` in quantization/config.py) are none of ours
METHODS = ("gptq", "awq")
LANGUAGE = Pattern("blocks", "language")


class GPTQModel:
    """Reads `{"+:.*down_proj": {"bits": 8}, "-:.*lm_head": {}}`, and what is around."""

    description = 'GPTQModel\'s quantize_config.json or `dynamic` block ("+:", "-:")'

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether this is GPTQModel's, or that of a program that writes the same."""
        config = quantization_config(data)
        return _alone(config) or _method(config) in METHODS

    def said(self, data: Mapping[str, Any]) -> Said:
        """What is said of names, and of the blocks of the language model."""
        config = quantization_config(data)
        if _alone(config):
            return Said(TOOL, tuple(_rules(config, Wanted(0), ())))
        whole = overridden(Wanted(0, method=_method(config)), config, "the model")
        bits = typed(config.get("bits"), "bits", int, float)
        whole = replace(whole, bits=bits)
        rules = _rules(object_of(config.get("dynamic"), "dynamic"), whole, (LANGUAGE,))
        if config.get("lm_head") is True:
            rules.append(Rule(Pattern("search", r"(^|\.)lm_head$"), whole))
        return Said(TOOL, (*rules, *_rest(config, whole)))


def _alone(config: Mapping[str, Any]) -> bool:
    return bool(config) and all(
        name.startswith((SKIPPED, QUANTIZED)) for name in config
    )


def _method(config: Mapping[str, Any]) -> str | None:
    # the older name, which transformers reads, and the newer
    found = config.get("quant_method", config.get("method"))
    return found if isinstance(found, str) else None


def _rules(
    dynamic: Mapping[str, Any], whole: Wanted, within: tuple[Pattern, ...]
) -> list[Rule]:
    found = []
    for text, own in dynamic.items():
        if text.startswith(SKIPPED):
            # the head is no part of a block, and stays as it is by default
            pattern = Pattern("match", text.removeprefix(SKIPPED))
            found.append(Rule(pattern, AS_IT_IS, within, "lm_head" in text))
            continue
        wanted = overridden(whole, object_of(own, text), text)
        if not wanted.bits:
            raise ValueError(f"{text} has no bits, and there are none of the whole")
        pattern = Pattern("match", text.removeprefix(QUANTIZED))
        found.append(Rule(pattern, wanted, within))
    return found


def _rest(config: Mapping[str, Any], whole: Wanted) -> list[Rule]:
    """The bits of the whole: of all linears in blocks, or of those that are listed."""
    # transformers' name and the older one; a list for each step of a block
    steps = config.get("modules_in_block_to_quantize")
    if steps is None:
        return [Rule(LANGUAGE, whole)]
    names = [
        name
        for step in typed(steps, "modules_in_block_to_quantize", list)
        for name in listed(step, "modules_in_block_to_quantize")
    ]
    return [
        Rule(Pattern("search", rf"\.{re.escape(name)}$"), whole, (LANGUAGE,))
        for name in names
    ]


PLUGIN: Reader = GPTQModel()
