"""Any configuration made small, so that a random model of it runs in milliseconds.

What a model is made of stays: kinds of blocks, which widths are equal, how heads share
keys, which tokens there are. What was large is small: widths, blocks, experts, words,
pictures. Rules are about names and values of settings, which all architectures of
transformers share, not about architectures.
"""

from __future__ import annotations

import re
import sys
from copy import deepcopy
from functools import cache
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.errors import in_one_sentence
from allocator.families._checkpoint import quiet
from allocator.families._shrunk_depth import shrink_depth
from allocator.families._shrunk_widths import (
    SECTIONS,
    each,
    numbers_of,
    parts_of,
    shrink_widths,
)
from allocator.families._shrunk_words import shrink_words

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 64  # pixels of a picture that becomes tokens
SIDE = 4  # patches along a picture's side
LENGTH = "max_position_embeddings"
ROPE = "rope_parameters"
# settings, and the most that they are in a shrunk model
LIMITS = {
    re.compile(pattern): limit
    for pattern, limit in {
        rf"^{LENGTH}$|^seq_len$|max_source_positions$|max_2d_\w+$": 512,
        r"^sliding_window(?:_size)?$|attention_chunk_size$|floor_scale$": 8,
        r"index_topk$|index_block_size$|index_kpool$|rel_extent$|^chunk_size$": 8,
        r"position_embedding_size$|posemb_grid_size$|pos_emb_(?:height|width)$": 16,
        r"num_query_tokens$|n_latents$|num_latents$|latent_query_num$": 8,
        r"^(?:moe_)?(?:num|n)_(?:local_|routed_)?experts$": 4,
        r"experts_per_tok$|^moe_k$|^moe_topk$|top_k_experts$|^n_group$": 2,
        r"^topk_group$": 1,
        r"max_image_size$|min_image_size$|_posemb_size$": 256,
    }.items()
}
PATCHES = re.compile(
    r"image_seq_length$|num_image_tokens$|^num_patches$|num_position_embeddings$"
    r"|soft_tokens_per_image$"
)
POOLED = "mm_tokens_per_image"
MERGES = ("spatial_merge_size", "scale_factor", "downsample_factor")
# pictures of so many patches are read by so many queries: Aria's settings
QUERIES_OF = "projector_patch_to_query_dict"
# blocks of a codebook's encoder halve a picture, down to these sizes
HALVED, HALVES = "resolution", "attn_resolutions"
# of random weights: SAM's default leaves its tower silent
SPREAD, LEAST_SPREAD = "initializer_range", 0.02
# what a tower's outcome is called
GIVEN = ("out_hidden_size", "text_hidden_size")
BY_DEFAULT = re.compile(rf"\"{SECTIONS}\", (\[[\d, ]+\])\)")


def shrunk(config: Any) -> Any:
    """The same configuration, small: some 10^4 to 10^6 parameters, of float32.

    Args:
        config: a configuration of transformers; it stays as it is.

    Raises:
        ModelError: transformers refuses what came of it.
    """
    said = f"a {config.model_type!r} configuration cannot be shrunk"
    with in_one_sentence(said), quiet():
        config = deepcopy(config)
        _say_sections(config)
        plain = config.to_dict()
        _agree(plain)
        _shrink_pictures(plain)
        shrink_words(plain)
        shrink_depth(plain)
        shrink_widths(plain)
        for part in parts_of(plain):
            # parts that are built by themselves would have another type than the rest
            part.pop("dtype", None)
            stretched = f"original_{LENGTH}" in (part.get(ROPE) or part)
            for key, value in part.items():
                # positions are stretched from one length to the other
                if not (key == LENGTH and stretched):
                    part[key] = _limited(key, value)
            if isinstance(part.get(SPREAD), float):
                part[SPREAD] = max(part[SPREAD], LEAST_SPREAD)
        return type(config).from_dict(plain)


def _limited(key: str, value: Any) -> Any:
    for name, limit in LIMITS.items():
        if name.search(key):
            return each(value, lambda n: min(n, limit))  # noqa: B023, called at once
    return value


def _configs_of(config: Any) -> Iterator[Any]:
    from transformers import PreTrainedConfig

    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _configs_of(value)


def _say_sections(config: Any) -> None:
    """Say how a head's frequencies are parted, where code alone says it.

    A default there is for heads of the published width, not of a small one.
    """
    for part in _configs_of(config):
        ropes = getattr(part, ROPE, None) or {}
        default = _sections_by_default(type(part).__module__)
        for rope in [ropes, *(v for v in ropes.values() if isinstance(v, dict))]:
            if default and rope.get("rope_type", "axial") != "axial":
                rope.setdefault(SECTIONS, list(default))


@cache
def _sections_by_default(module: str) -> tuple[int, ...]:
    """The parts that the code beside a configuration's takes where none are said."""
    file = sys.modules[module].__file__ or ""
    code = Path(file.replace("configuration_", "modeling_"))
    found = BY_DEFAULT.search(code.read_text("utf-8")) if code.is_file() else None
    return tuple(int(n) for n in found[1].strip("[]").split(",")) if found else ()


def _agree(plain: dict[str, Any]) -> None:
    """Let a tower give what the language model reads: by default it may not."""
    text = plain.get("text_config")
    width = text.get("hidden_size") if isinstance(text, dict) else None
    for name in ("vision_config", "adapter_config"):
        part = plain.get(name)
        if not isinstance(part, dict) or width is None:
            continue
        gives = [key for key in GIVEN if isinstance(part.get(key), int)]
        if "embed_dim" in part and not gives:
            # where the width inside has another name
            gives = ["hidden_size"]
        part.update(dict.fromkeys(gives, width))


def _shrink_pictures(plain: dict[str, Any]) -> None:
    """Let a picture be a few patches of the same size, which still can be merged."""
    side = _side(plain)
    for part in parts_of(plain):
        part.update(
            (key, each(value, lambda n: min(n, side**2)))
            for key, value in part.items()
            if PATCHES.search(key)
        )
        if numbers_of(part.get("image_size")) and numbers_of(part.get("patch_size")):
            _shrink_picture(plain, part, side)
        if numbers_of(part.get(HALVED)):
            _halve_less(part)
        if part.get(QUERIES_OF):
            part[QUERIES_OF] = {side**2: SIDE}
            part[f"max_value_{QUERIES_OF}"] = SIDE
    # the size of a picture is about as many patches as are pooled
    for part in parts_of(plain):
        if part.get(POOLED):
            part[POOLED] = min(part[POOLED], SIDE)


def _side(plain: dict[str, Any]) -> int:
    """Patches along a picture's side: two, or more, of what is merged."""
    parts = list(parts_of(plain))
    merges = [p[k] for p in parts for k in MERGES if isinstance(p.get(k), int)]
    if isinstance(rate := plain.get("downsample_rate"), str):
        # so many of so many patches along a window's side are left
        merges.append(int(rate.split("/")[1]) // 2)
    return max(SIDE, 2 * max(merges, default=1))


def _halve_less(part: dict[str, Any]) -> None:
    times = part[HALVED] // LIMIT
    if times > 1:
        part[HALVED] = LIMIT
        part[HALVES] = each(part.get(HALVES), lambda n: max(1, n // times))


def _shrink_picture(plain: dict[str, Any], part: dict[str, Any], side: int) -> None:
    before = numbers_of(part["image_size"])[0]
    patch = numbers_of(part["patch_size"])[0]
    pooled = [p[POOLED] for p in parts_of(plain) if isinstance(p.get(POOLED), int)]
    if pooled:
        # two rows of as many patches as are pooled
        side = max(side, 2 * (before // patch // isqrt(pooled[0])))
    after = side * patch
    if before <= after:
        return
    part["image_size"] = each(part["image_size"], lambda _: after)
    points = plain.get("image_grid_pinpoints")
    if points:
        small = [[size // before * after for size in point] for point in points]
        plain["image_grid_pinpoints"] = small
