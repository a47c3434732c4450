"""llm-compressor: a recipe.yaml, or the quantization_config of what it wrote.

A recipe is `..._stage: ..._modifiers: Modifier: {...}` (`recipe/recipe.py` of
llm-compressor), a modifier has `config_groups`, or a `scheme` and `targets`
(`modifiers/quantization/quantization/mixin.py`). Which group a linear belongs to is
decided as in compressed-tensors 0.17 (`utils/match.py`): what is ignored first, then
names, then expressions from the beginning of a name ("re:"), then the class.
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
    quantization_config,
    typed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.bench.imported._said import Reader

TOOL = "llm-compressor"
METHODS = {
    "GPTQModifier": "gptq",
    "AWQModifier": "awq",
    "QuantizationModifier": "uniform",
}
EXPRESSION = "re:"
# names of `PRESET_SCHEMES` (compressed_tensors/quantization/quant_scheme.py): W4A16,
# W4A16_ASYM, INT8, FP8_DYNAMIC, NVFP4A16
PRESET = re.compile(r"(W|INT|FP|NVFP|MXFP)(\d+)(A\d+|AFP8)?(_[A-Z]+)?")
# its weights as they are
UNQUANTIZED = "UNQUANTIZED"


class LLMCompressor:
    """Reads config groups with their targets, and what is ignored."""

    description = (
        "llm-compressor's recipe.yaml, or a compressed-tensors quantization_config "
        "(config_groups, targets, ignore)"
    )

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether there are stages of modifiers, or config groups of no other tool."""
        config = quantization_config(data)
        ours = config.get("quant_method", "compressed-tensors") == "compressed-tensors"
        return _is_recipe(data) or ("config_groups" in config and ours)

    def said(self, data: Mapping[str, Any]) -> Said:
        """What is ignored, then the groups."""
        if _is_recipe(data):
            return _of_recipe(data)
        config = quantization_config(data)
        return Said(TOOL, tuple(_rules(config, None)))


def _is_recipe(data: Mapping[str, Any]) -> bool:
    return any(key.endswith("_stage") for key in data)


def _of_recipe(data: Mapping[str, Any]) -> Said:
    modifiers = {
        name: own
        for stage, groups in data.items()
        if stage.endswith("_stage")
        for kind, several in object_of(groups, stage).items()
        if kind.endswith("_modifiers")
        for name, own in object_of(several, f"{stage}.{kind}").items()
    }
    quantizing = {
        name: object_of(own, name)
        for name, own in modifiers.items()
        if {"scheme", "config_groups"} & object_of(own, name).keys()
    }
    if len(quantizing) != 1:
        raise ValueError(
            f"modifiers that quantize are {', '.join(quantizing) or 'none'}, and one "
            "is read"
        )
    [(name, own)] = quantizing.items()
    # a transform of AWQ's comes before what rounds
    awq = any(each.startswith("AWQ") for each in modifiers)
    return Said(TOOL, tuple(_rules(own, "awq" if awq else METHODS.get(name))))


def _rules(config: Mapping[str, Any], method: str | None) -> list[Rule]:
    ignored = [
        Rule(_pattern(text), AS_IT_IS, optional="lm_head" in text)
        for text in listed(config.get("ignore") or [], "ignore")
    ]
    wanted: dict[str, Wanted] = {}
    for targets, own in _groups(config):
        # a later group takes a target from an earlier one
        wanted |= dict.fromkeys(targets, replace(own, method=method))
    # as `match_targets` sorts them; classes come last
    order = sorted(wanted, key=lambda text: (EXPRESSION in text, text))
    rules = [Rule(_pattern(text), wanted[text]) for text in order]
    return [*ignored, *sorted(rules, key=lambda rule: rule.pattern.kind == "class")]


def _pattern(text: str) -> Pattern:
    if text.startswith(EXPRESSION):
        return Pattern("match", text.removeprefix(EXPRESSION))
    # classes are in capitals, and no module is
    return Pattern("class" if text[:1].isupper() else "name", text)


def _groups(config: Mapping[str, Any]) -> list[tuple[list[str], Wanted]]:
    """Targets of each group, and what its weights get."""
    targets, scheme = config.get("targets", "Linear"), config.get("scheme")
    if scheme is None:
        groups = object_of(config.get("config_groups"), "config_groups")
        return [
            (listed(own.get("targets"), f"targets of {name}"), _weights(own, name))
            for name, own in groups.items()
        ]
    if isinstance(scheme, str):
        scheme = {scheme: targets}
    return [
        (listed(each, f"targets of {name}"), _preset(name))
        for name, each in object_of(scheme, "scheme").items()
    ]


def _weights(group: Mapping[str, Any], name: str) -> Wanted:
    weights = object_of(group.get("weights"), f"weights of {name}")
    if not weights:
        # activations alone
        return AS_IT_IS
    size = weights.get("group_size")
    if size is None and weights.get("strategy") == "channel":
        size = -1
    return Wanted(
        typed(weights.get("num_bits", 8), f"num_bits of {name}", int, float),
        weights.get("type", "int") == "float",
        group_size=typed(size, f"group_size of {name}", int, type(None)),
        symmetric=typed(weights.get("symmetric", True), f"symmetric of {name}", bool),
    )


def _preset(name: str) -> Wanted:
    if name.upper() == UNQUANTIZED:
        return AS_IT_IS
    found = PRESET.fullmatch(name.upper())
    if not found:
        raise ValueError(f"there is no scheme {name}")
    return Wanted(int(found[2]), found[1].endswith("FP"))


PLUGIN: Reader = LLMCompressor()
