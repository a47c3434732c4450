"""NVIDIA ModelOpt: hf_quant_config.json, or what auto_quantize came to, as JSON.

As modelopt 0.47 writes them: `process_layer_quant_config` (`torch/export/
quant_utils.py`) and its copy in config.json (`torch/export/convert_hf_config.py`); the
search state of `auto_quantize` with text in place of its recipes
(`json.dump(state, file, default=str)`); the config of `get_auto_quantize_config`
(`torch/quantization/algorithms.py`), of whose entries the last one counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from allocator.bench.imported._names import WEIGHT_QUANTIZER
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
from allocator.core.layouts import FULL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.bench.imported._said import Reader

TOOL = "ModelOpt"
MIXED = "MIXED_PRECISION"
# INT4_BLOCKWISE_WEIGHT_ONLY_CFG, W4A8_AWQ_BETA_CFG, NVFP4_AWQ, W8A8_SQ_PER_CHANNEL
NAMED = re.compile(r"(?:^|_)(W|INT|FP|NVFP|MXFP)(\d+)", re.IGNORECASE)
RECIPE = re.compile(r"(.+)\(effective-bits: ([\d.]+)\)")


class ModelOpt:
    """Reads algorithms, recipes or settings of quantizers, by name."""

    description = (
        "ModelOpt's hf_quant_config.json, auto_quantize state or quantization config"
    )

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether this is ModelOpt's."""
        kinds = (_algorithms(data), _recipes(data), data.get("quant_cfg"))
        return any(kind is not None for kind in kinds)

    def said(self, data: Mapping[str, Any]) -> Said:
        """What is said of layers by name, and of all others."""
        if (found := _algorithms(data)) is not None:
            return Said(TOOL, tuple(_of_algorithms(found)))
        if (recipes := _recipes(data)) is not None:
            return Said(TOOL, tuple(_of_recipes(data, recipes)), ordered=False)
        return Said(TOOL, tuple(_of_quantizers(data["quant_cfg"])))


def _algorithms(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for part in (data.get("quantization"), quantization_config(data)):
        if isinstance(part, dict) and "quant_algo" in part:
            return part
    return None


def _recipes(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    best = data.get("best")
    recipes = best.get("recipe") if isinstance(best, dict) else None
    return recipes if isinstance(recipes, dict) else None


def _of_algorithms(part: Mapping[str, Any]) -> list[Rule]:
    # the copy in config.json has another name for them
    excluded = part.get("exclude_modules", part.get("ignore"))
    left = [
        Rule(Pattern("glob", text), AS_IT_IS, optional="lm_head" in text)
        for text in listed(excluded or [], "exclude_modules")
    ]
    layers = object_of(part.get("quantized_layers"), "quantized_layers")
    named = [
        Rule(Pattern("name", name), _algorithm(object_of(own, name), name))
        for name, own in layers.items()
    ]
    if part["quant_algo"] == MIXED:
        return named
    return [*left, *named, Rule(Pattern("class", "Linear"), _algorithm(part, "all"))]


def _algorithm(own: Mapping[str, Any], name: str) -> Wanted:
    algorithm = own.get("quant_algo")
    if algorithm is None:
        return AS_IT_IS
    text = typed(algorithm, f"quant_algo of {name}", str)
    found = NAMED.search(text)
    if found is None:
        raise ValueError(f"{name} has quant_algo {text}, whose bits are not known")
    size = typed(own.get("group_size"), f"group_size of {name}", int, type(None))
    awq = "awq" if "AWQ" in text else None
    # W4A8_NVFP4_FP8: weights of four bits with an exponent
    floating = "FP4" in text or _floats(found[1])
    return Wanted(int(found[2]), floating, awq, size or None)


def _floats(kind: str) -> bool:
    return kind.upper().endswith("FP")


def _of_recipes(data: Mapping[str, Any], recipes: Mapping[str, Any]) -> list[Rule]:
    stats = object_of(data.get("candidate_stats"), "candidate_stats")
    found = []
    for key, recipe in recipes.items():
        if key not in stats:
            raise ValueError(
                f"candidate_stats has nothing of {key}, so that nothing says which "
                "layers share its recipe"
            )
        names = listed(stats[key].get("module_names"), f"module_names of {key}")
        wanted = _recipe(typed(recipe, f"recipe of {key}", str), key)
        found += [Rule(Pattern("name", name), wanted) for name in names]
    return found


def _recipe(text: str, key: str) -> Wanted:
    """What `str` of a `QuantRecipe` says: name and effective bits."""
    told = RECIPE.fullmatch(text)
    if told is None:
        raise ValueError(f"{key} has {text!r:.80}, which is no recipe")
    bits, named = float(told[2]), NAMED.search(told[1])
    if bits >= FULL:
        return AS_IT_IS
    floating = named is not None and _floats(named[1])
    # what scales take may be counted too
    if not bits.is_integer() and named is not None:
        bits = float(named[2])
    return Wanted(bits, floating, "awq" if "AWQ" in told[1] else None)


def _of_quantizers(entries: Any) -> list[Rule]:
    if isinstance(entries, dict):
        # as before 0.40: {pattern: {"num_bits": 4, "enable": true}}
        entries = [
            {"quantizer_name": name, "cfg": own, "enable": own.get("enable", True)}
            for name, own in entries.items()
        ]
    found = [_of_quantizer(entry) for entry in typed(entries, "quant_cfg", list)]
    return [rule for rule in reversed(found) if rule is not None]


def _of_quantizer(entry: Mapping[str, Any]) -> Rule | None:
    """A rule for weights; None where an entry only switches on.

    Patterns may match nothing: the library adds some, and others are of activations.
    """
    name = typed(entry["quantizer_name"], "quantizer_name", str)
    exact = name.endswith(WEIGHT_QUANTIZER) and "*" not in name
    text = name.removesuffix(WEIGHT_QUANTIZER) if exact else name
    pattern = Pattern("name" if exact else "quantizer", text)
    if not typed(entry.get("enable", True), f"enable of {name}", bool):
        return Rule(pattern, AS_IT_IS, optional=not exact)
    cfg = entry.get("cfg")
    # of several in a row the first one rounds the stored weights
    cfg = cfg[0] if isinstance(cfg, list) and cfg else cfg
    if cfg is None:
        return None
    own = object_of(cfg, name)
    bits = typed(own.get("num_bits", 8), f"num_bits of {name}", int, list)
    sizes = object_of(own.get("block_sizes"), f"block_sizes of {name}")
    size = typed(sizes.get("-1"), f"block_sizes of {name}", int, type(None))
    if isinstance(bits, list):
        # exponent and mantissa, and a sign
        return Rule(pattern, Wanted(1 + sum(bits), True, None, size), (), not exact)
    return Rule(pattern, Wanted(bits, False, None, size), (), not exact)


PLUGIN: Reader = ModelOpt()
