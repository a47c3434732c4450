"""Which models mlx-vlm runs as transformers does, and where it keeps their parts.

Each was run with random weights: logits of mlx-vlm 0.7.10 were those of transformers
5.24 up to float32's rounding; why others are refused is in `core.holding`. A model of
mlx-vlm has some settings built in (`mlx_vlm/models/*/`): what a checkpoint says
otherwise is refused too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.holding import WHY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RUNTIME = "mlx-vlm 0.7.10"


@dataclass(frozen=True)
class Known:
    """A kind of model that mlx-vlm runs exactly.

    Attributes:
        names: beginnings of full names, and of the paths that mlx-vlm has for them; the
            first that fits counts.
        built_in: values of settings, by path in config.json, that its code assumes.
        own_heads: it reads `head_dim`; else a head is the width over the heads.
    """

    names: tuple[tuple[str, str], ...]
    built_in: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    own_heads: bool = False


HEAD = ("lm_head.", "language_model.lm_head.")
TEXT = ("model.language_model.", "language_model.model.")
# the tower's own name is gone from transformers 5.2 on
TOWER = (
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
)
LLAVA = (*TOWER, TEXT, HEAD, ("model.", ""))
QWEN = (("model.visual.", "vision_tower."), TEXT, HEAD)
ROTARY = {"text_config.rope_parameters.rope_type": ("default",)}
SILU = {"text_config.hidden_act": ("silu",), "text_config.mlp_bias": (False,)}
QWEN_TEXT = {**ROTARY, **SILU, "text_config.use_sliding_window": (False,)}
PROJECTOR = {
    "projector_hidden_act": ("gelu",),
    "multimodal_projector_bias": (True,),
}
SIGLIP = {
    "vision_config.model_type": ("siglip_vision_model",),
    "vision_config.hidden_act": ("gelu_pytorch_tanh",),
    "vision_config.vision_use_head": (False,),
}

KNOWN = {
    "llava": Known(
        LLAVA,
        {
            **ROTARY,
            **SILU,
            **PROJECTOR,
            "vision_config.model_type": ("clip_vision_model",),
            "vision_config.hidden_act": ("quick_gelu",),
            "vision_config.layer_norm_eps": (1e-5,),
            "text_config.model_type": ("llama", "qwen2"),
            "text_config.attention_bias": (False,),
            "text_config.use_sliding_window": (False,),
        },
    ),
    "llava_onevision": Known(
        LLAVA,
        {**QWEN_TEXT, **PROJECTOR, **SIGLIP, "text_config.model_type": ("qwen2",)},
    ),
    "qwen2_vl": Known(QWEN, {**QWEN_TEXT, "vision_config.hidden_act": ("quick_gelu",)}),
    "qwen2_5_vl": Known(QWEN, {**QWEN_TEXT, "vision_config.hidden_act": ("silu",)}),
    "qwen3_vl": Known(
        QWEN,
        {
            **ROTARY,
            **SILU,
            "text_config.attention_bias": (False,),
            "vision_config.hidden_act": ("gelu_pytorch_tanh",),
        },
        own_heads=True,
    ),
    # without a head of its own, whatever a checkpoint has
    "paligemma": Known(
        (*TOWER, TEXT, ("model.", "")),
        {
            **ROTARY,
            **SIGLIP,
            "text_config.model_type": ("gemma", "gemma2"),
            "text_config.hidden_activation": ("gelu_pytorch_tanh",),
        },
    ),
}


def known(kind: str) -> Known:
    """What mlx-vlm makes of a `model_type`.

    Raises:
        SpecError: nothing, or something else than transformers does.
    """
    if kind in KNOWN:
        return KNOWN[kind]
    why = WHY["mlx"].get(kind, "these were not tried")
    raise SpecError(
        f"{RUNTIME} does not run models of type {kind!r} as transformers does: {why}; "
        f"mlx can hold {', '.join(KNOWN)}"
    )


def path_of(kind: str, name: str) -> str:
    """Path in mlx-vlm of a parameter or module.

    Raises:
        SpecError: a kind that is refused, or a name that has no place there.

    >>> path_of("llava", "model.language_model.layers.0.mlp.up_proj")
    'language_model.model.layers.0.mlp.up_proj'
    """
    for ours, theirs in known(kind).names:
        if f"{name}.".startswith(ours):
            return (theirs + f"{name}."[len(ours) :]).removesuffix(".")
    raise SpecError(f"mlx cannot hold {name}: {RUNTIME} has no place for it")


def check_settings(config: Any) -> None:
    """Refuse a configuration that mlx-vlm would run as another.

    Args:
        config: of transformers.

    Raises:
        SpecError: names the first setting, and the values that would do.
    """
    model, kind = known(config.model_type), config.model_type
    for path, allowed in model.built_in.items():
        found = _setting(config, path)
        if found is not None and found not in allowed:
            raise SpecError(
                f"mlx cannot hold this {kind} model: its {path} is {found!r}, and "
                f"{RUNTIME} has {' or '.join(map(repr, allowed))} built in"
            )
    text = config.get_text_config()
    width = getattr(text, "head_dim", None)
    plain = text.hidden_size // text.num_attention_heads
    # the language model of Gemma 2 reads it, that of Gemma does not
    free = model.own_heads or text.model_type == "gemma2"
    if width not in (None, plain) and not free:
        raise SpecError(
            f"mlx cannot hold this {kind} model: its heads are {width} wide, and "
            f"{RUNTIME} takes them as {plain}, the width over the heads"
        )
    layer = getattr(config, "vision_feature_layer", None)
    if not isinstance(layer, int | None):
        raise SpecError(
            f"mlx cannot hold this {kind} model: its features come from several blocks "
            f"of the tower, and {RUNTIME} reads one"
        )


def _setting(config: Any, path: str) -> Any:
    """A value by its path in nested configurations; None: it is not there."""
    read: Callable[[Any, str], Any]
    for part in path.split("."):
        read = dict.get if isinstance(config, dict) else _attribute
        config = read(config, part)
        if config is None:
            return None
    return config


def _attribute(config: Any, name: str) -> Any:
    return getattr(config, name, None)
