"""Any configuration made small, so that a random model of it runs in milliseconds.

What a model is made of stays: kinds of blocks, which widths are equal, how heads share
keys, which tokens there are. What was large is small: widths, blocks, experts, words,
pictures. Rules are about names and values of settings, which all architectures of
transformers share, not about architectures.
"""

from __future__ import annotations

import re
from copy import deepcopy
from math import isqrt
from typing import Any

from allocator.core.errors import in_one_sentence
from allocator.families._checkpoint import quiet
from allocator.families._shrunk_depth import shrink_depth
from allocator.families._shrunk_widths import each, parts_of, shrink_widths

POSITIONS = 512
WINDOW = 8
EXPERTS, CHOSEN, CROWDS = 4, 2, 2
SIDE = 4  # patches along a picture's side
FEW = 16  # tokens between two that have a meaning
LOW = 64  # numbers of tokens that stay

TOKEN = re.compile(
    r"(?:token|bos|eos|pad|sep|cls|start|end|newline|eod)_(?:id|ids|index)$|_patch_id$"
)
WORDS = re.compile(r"vocab_size(?:_per_layer_input)?$|vocab_offset$|token_offset$")
LONG = re.compile(r"max_position_embeddings$|^seq_len$|max_source_positions$")
WINDOWS = re.compile(
    r"^sliding_window(?:_size)?$|attention_chunk_size$|index_topk$|index_block_size$"
    r"|index_kpool$|rel_extent$|^chunk_size$|floor_scale$|position_embedding_size$"
)
MIXTURE = re.compile(r"^(?:moe_)?(?:num|n)_(?:local_|routed_)?experts$")
TOP = re.compile(r"experts_per_tok$|^moe_k$|^moe_topk$|top_k_experts$")
QUERIES = re.compile(r"num_query_tokens$|n_latents$|num_latents$|latent_query_num$")
GRIDS = re.compile(r"posemb_grid_size$|pos_emb_(?:height|width)$")
PATCHES = re.compile(
    r"mm_tokens_per_image$|image_seq_length$|num_image_tokens$|^num_patches$"
    r"|num_position_embeddings$|soft_tokens_per_image$"
)


def shrunk(config: Any) -> Any:
    """The same configuration, small: some 10^4 to 10^6 parameters.

    Args:
        config: a configuration of transformers; it stays as it is.

    Raises:
        ModelError: transformers refuses what came of it.
    """
    said = f"a {config.model_type!r} configuration cannot be shrunk"
    with in_one_sentence(said), quiet():
        plain = deepcopy(config.to_dict())
        shrink_pictures(plain)
        shrink_words(plain)
        shrink_depth(plain)
        shrink_widths(plain)
        for part in parts_of(plain):
            _shrink_counts(part)
        return type(config).from_dict(plain)


def _shrink_counts(part: dict[str, Any]) -> None:
    for key, value in part.items():
        if LONG.search(key):
            part[key] = each(value, lambda n: min(n, POSITIONS))
        elif WINDOWS.search(key) or QUERIES.search(key):
            part[key] = each(value, lambda n: min(n, WINDOW))
        elif MIXTURE.search(key):
            part[key] = each(value, lambda n: min(n, EXPERTS))
        elif TOP.search(key):
            part[key] = each(value, lambda n: min(n, CHOSEN))
        elif key == "n_group":
            part[key] = each(value, lambda n: min(n, CROWDS))
        elif key == "topk_group":
            part[key] = each(value, lambda n: min(n, 1))


def shrink_words(plain: dict[str, Any]) -> None:
    """Move tokens together: near ones stay as near, and all are inside."""
    found: set[int] = set()

    def note(number: int) -> int:
        found.add(number)
        return number

    parts = list(parts_of(plain))
    keys = [(p, k) for p in parts for k in p if TOKEN.search(k) or WORDS.search(k)]
    for part, key in keys:
        each(part[key], note)
    sizes = [v for p, k in keys if WORDS.search(k) and isinstance(v := p[k], int)]
    gap = max([FEW, *(size for size in sizes if size <= POSITIONS)])
    new, last = {}, 0
    for before, number in zip([0, *sorted(found)], sorted(found), strict=False):
        last = (
            number
            if number <= LOW
            else max(last, LOW // 2) + min(number - max(before, 0), gap)
        )
        new[number] = last
    for part, key in keys:
        part[key] = each(part[key], lambda n: new[n] if n >= 0 else n)
    tokens: list[int] = []
    for part, key in keys:
        if TOKEN.search(key):
            each(part[key], lambda n: tokens.append(n) or n)
    _make_room(keys, max(tokens, default=0))


def _make_room(keys: list[tuple[dict[str, Any], str]], last: int) -> None:
    """Let the largest vocabulary hold all tokens; settings by default may not."""
    sizes = [(p, k) for p, k in keys if k == "vocab_size" and isinstance(p[k], int)]
    largest = max((p[k] for p, k in sizes), default=0)
    for part, key in sizes:
        if part[key] == largest:
            part[key] = max(largest, last + 1)


def shrink_pictures(plain: dict[str, Any]) -> None:
    """Let a picture be a few patches of the same size."""
    parts = list(parts_of(plain))
    merge = max([1, *(_merge(part) for part in parts)])
    pooled = plain.get("mm_tokens_per_image")
    for part in parts:
        size, patch = part.get("image_size"), part.get("patch_size")
        if not isinstance(size, int | list) or not isinstance(patch, int | list):
            continue
        wide = size if isinstance(size, int) else size[0]
        step = patch if isinstance(patch, int) else patch[0]
        side = max(SIDE, 2 * merge)
        if isinstance(pooled, int):
            side = max(side, 2 * (wide // step // isqrt(pooled)))
        if wide // step <= side:
            continue
        part["image_size"] = each(size, lambda _: side * step)
        _scale_pinpoints(plain, wide, side * step)
    side = max(SIDE, 2 * merge)
    for part in parts:
        for key, value in part.items():
            if key == "mm_tokens_per_image":
                part[key] = each(value, lambda n: min(n, SIDE))
            elif PATCHES.search(key):
                part[key] = each(value, lambda n: min(n, side**2))
            elif GRIDS.search(key):
                part[key] = each(value, lambda n: min(n, WINDOW))


def _merge(part: dict[str, Any]) -> int:
    for key in ("spatial_merge_size", "scale_factor", "downsample_factor"):
        if isinstance(part.get(key), int):
            return int(part[key])
    return 1


def _scale_pinpoints(plain: dict[str, Any], before: int, after: int) -> None:
    points = plain.get("image_grid_pinpoints")
    if points:
        plain["image_grid_pinpoints"] = [
            [size // before * after for size in point] for point in points
        ]
