"""How many tokens a picture and a question are, by the configuration alone.

Pictures are taken as 640 x 480 pixels, as most of COCO's are.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from allocator.core.unit_costs import Lengths

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDE, HIGH = 640, 480
# questions that VQAv2 has of a picture (arXiv 1612.00837)
QUESTIONS = 5.4


class Picture(NamedTuple):
    """Tokens of a picture: in the tower, in the connector, in the prompt."""

    tower: float
    connector: float
    prompt: float


def lengths_of(config: Mapping[str, Any], reply: float) -> Lengths:
    """A mean sample of VQAv2; `reply` are the steps of a batch's longest reply."""
    kind = config["model_type"]
    if kind not in PICTURES:
        known = ", ".join(sorted(PICTURES))
        raise SystemExit(f"pictures of {kind!r} are not known here; known are {known}")
    picture = PICTURES[kind](config)
    text = TEXT.get(kind, CHAT)
    return Lengths(
        vision=picture.tower,
        connector=picture.connector,
        prompt=picture.prompt + text,
        picture=picture.prompt + BEFORE,
        reply=reply,
        questions=QUESTIONS,
    )


def _side(config: Mapping[str, Any]) -> int:
    """Patches in a row of a square picture or tile."""
    vision = config["vision_config"]
    sizes = vision.get("image_size", 224), vision.get("patch_size", 14)
    whole, patch = (each[0] if isinstance(each, list) else each for each in sizes)
    return int(whole // patch)


def _square(config: Mapping[str, Any]) -> Picture:
    """LLaVA-1.5, PaliGemma: each patch is a token."""
    tokens = _side(config) ** 2
    classed = "clip" in config["vision_config"].get("model_type", "")
    return Picture(tokens + classed, tokens, tokens)


def _tiled(config: Mapping[str, Any]) -> Picture:
    """LLaVA-NeXT, OneVision: the picture in small, and 2 x 2 tiles, unpadded."""
    side = _side(config)
    rows = 2 * side * HIGH // WIDE
    return Picture(5 * side**2, 5 * side**2, side**2 + rows * (2 * side + 1))


def _merged(config: Mapping[str, Any]) -> Picture:
    """Qwen-VL: patches of the picture as it is, four merged into one."""
    vision = config["vision_config"]
    merge = vision.get("spatial_merge_size", 2)
    unit = vision.get("patch_size", 14) * merge
    tokens = round(WIDE / unit) * round(HIGH / unit)
    return Picture(tokens * merge**2, tokens, tokens)


def _queried(config: Mapping[str, Any]) -> Picture:
    """BLIP-2: queries read 16 x 16 patches and a token of their class."""
    queries = config.get("num_query_tokens", 32)
    return Picture(_side(config) ** 2 + 1, queries, queries)


def _pooled(config: Mapping[str, Any]) -> Picture:
    """Gemma 3: a square of 896 pixels, pooled."""
    tokens = config.get("mm_tokens_per_image", 256)
    return Picture(_side(config) ** 2, tokens, tokens)


def _shuffled(config: Mapping[str, Any]) -> Picture:
    """InternVL, SmolVLM: 4 x 3 tiles and the picture in small, pixels shuffled."""
    ratio = config.get("scale_factor") or 1 / config.get("downsample_ratio", 0.5)
    own = _side(config) ** 2
    tokens = 13 * ceil(own / ratio**2)
    return Picture(13 * own, tokens, tokens)


PICTURES = {
    "llava": _square,
    "paligemma": _square,
    "llava_next": _tiled,
    "llava_onevision": _tiled,
    "qwen2_vl": _merged,
    "qwen2_5_vl": _merged,
    "qwen3_vl": _merged,
    "qwen3_5": _merged,
    "blip-2": _queried,
    "gemma3": _pooled,
    "internvl": _shuffled,
    "idefics3": _shuffled,
    "smolvlm": _shuffled,
}
# tokens of a prompt beside its picture: those in front of it, marks and words and the
# question in all; of chat templates, and of the shorter ones of BLIP-2
BEFORE, CHAT = 4, 44
TEXT = {"blip-2": 16, "paligemma": 12}
