"""Widths and heads of a shrunk configuration: one map of sizes for all its parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

STEP = 32  # runtimes pack 32 weights
WIDEST = 128
TIMES = 6  # how many times another a width may be by design
SMALL = 64  # sizes up to here stay
NARROW = 1024
MOST_HEADS = 4
HEAD = 8  # what a head's width is divided by, and a multiple of

WIDTH = re.compile(
    r"hidden_sizes?$|hidden_size_per_layer_input$|intermediate_size(?:_mlp)?$|_dims?$"
    r"|^d_model$|^d_ff$|_rank$|lowrank$|channels$|(?:output|input)_size$|pos_feats$"
)
NO_WIDTH = re.compile(r"patch_dim$|kernel_dim$")
HEAD_WIDTH = re.compile(r"head_dim$|dim_head$|^d_kv$|^rotary_dim$|ssm_state_size$")
# widths within a block, which nothing else reads
INNER = re.compile(r"intermediate|inner|^d_ff$|ffn|mlp")
SIDES = ("spatial_merge_size", "merge_size")
HEADS = re.compile(r"heads$|^n_groups$")
HIDDEN = ("hidden_size", "d_model", "embed_dim")
COUNTED = ("num_attention_heads", "num_heads", "attention_heads")
# Granite 4 Vision's code counts its Q-Former's heads by widths of 64
WIDE_HEADS = "deepstack_layer_map"
SECTIONS = "mrope_section"
LATENT = "qk_rope_head_dim"


def shrink_widths(plain: dict[str, Any]) -> None:
    """Make the widths of a configuration and of its parts small, equal ones alike.

    Where none is over 1,024 they stay.
    """
    parts = list(parts_of(plain))
    sizes = _sizes(parts)
    if max(sizes, default=0) <= NARROW:
        return
    small = _map_of(sizes, _products(parts, sizes))
    if WIDE_HEADS in plain:
        small = {size: 2 * narrow for size, narrow in small.items()}
    for part in parts:
        before = dict(part)
        for key, value in before.items():
            if is_width(key):
                part[key] = each(value, lambda size: small.get(size, size))
        _shrink_heads(part, before)


def parts_of(plain: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A configuration and all that it is made of."""
    yield plain
    for value in plain.values():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict) and all(isinstance(k, str) for k in inner):
                yield from parts_of(inner)


def each(value: Any, change: Callable[[int], int]) -> Any:
    """A number, or each of a list's, changed; anything else stays."""
    if isinstance(value, list | tuple):
        return [each(one, change) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return change(value)
    return value


def numbers_of(value: Any) -> list[int]:
    """A number, or all of a list's; none of anything else."""
    if isinstance(value, list | tuple):
        return [number for one in value for number in numbers_of(one)]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return [value] if is_number else []


def is_width(key: str) -> bool:
    """Whether a setting is a width of hidden states."""
    return bool(WIDTH.search(key)) and not any(
        other.search(key) for other in (NO_WIDTH, HEAD_WIDTH)
    )


def _sizes(parts: Iterable[dict[str, Any]]) -> set[int]:
    found = (n for p in parts for k in p if is_width(k) for n in numbers_of(p[k]))
    return {size for size in found if size > SMALL}


def _products(
    parts: Sequence[dict[str, Any]], sizes: set[int]
) -> dict[int, tuple[int, int]]:
    """Widths of several hidden states side by side: which width, and how many."""
    bases = sizes & {_first(part, HIDDEN) for part in parts}
    times = {number for part in parts for number in _beside(part) if number > 1}
    given = {
        width
        for part in parts
        for key, value in part.items()
        if is_width(key) and not INNER.search(key)
        for width in numbers_of(value)
    }
    return {
        base * number: (base, number)
        for base in bases
        for number in times
        if base * number in (given & sizes) - bases
    }


def _beside(part: dict[str, Any]) -> Iterator[int]:
    """How many hidden states a model may put side by side."""
    for key in SIDES:
        if isinstance(part.get(key), int):
            yield part[key] ** 2
    if isinstance(ratio := part.get("downsample_ratio"), float):
        yield round(ratio**-2)
    yield len(part.get("intermediate_layers_indices") or ()) + 1


def _map_of(sizes: set[int], products: dict[int, tuple[int, int]]) -> dict[int, int]:
    """A small size for each: multiples of 32, in the same order, multiples as well."""
    small: dict[int, int] = {}
    last = 0
    for size in sorted(sizes):
        if size in products:
            base, times = products[size]
            small[size] = small[base] * times
            continue
        # the largest one that it is a few times of
        near = [u for u in small if size % u == 0 and size // u <= TIMES]
        times = size // near[-1] if near else 0
        multiple = small[near[-1]] * times if near else 0
        last = multiple if last < multiple <= WIDEST else last + STEP
        small[size] = last
    return small


def _shrink_heads(part: dict[str, Any], before: dict[str, Any]) -> None:
    heads = sorted(
        {n for k, v in before.items() if HEADS.search(k) for n in numbers_of(v)}
    )
    for key, value in before.items():
        if HEADS.search(key):
            part[key] = each(value, lambda count: _few(count, heads))
    for key, value in before.items():
        if HEAD_WIDTH.search(key) and isinstance(value, int):
            part[key] = _head_width(key, value, part, before)
    _shrink_sections(part, before)


def _few(count: int, others: list[int]) -> int:
    """As many heads as the most have are four, fewer two, and one is one."""
    return min(count, MOST_HEADS if count >= max(others) else 2)


def _head_width(
    key: str, value: int, part: dict[str, Any], before: dict[str, Any]
) -> int:
    if value <= HEAD:
        return value
    own = key == "head_dim" and LATENT not in before
    hidden, heads = _first(before, HIDDEN), _first(before, COUNTED)
    if own and hidden and heads and value * heads == hidden:
        return int(_first(part, HIDDEN) // _first(part, COUNTED))
    return -(-value // HEAD // HEAD) * HEAD if value > HEAD * HEAD else HEAD


def _first(part: dict[str, Any], names: tuple[str, ...]) -> int:
    found = (part[n] for n in names if isinstance(part.get(n), int))
    return next(found, 0)


def head_width(part: dict[str, Any]) -> int:
    """The width of a head: as is said, or what the heads share."""
    said = part.get("head_dim")
    if isinstance(said, int) and said:
        return said
    heads = _first(part, COUNTED)
    return _first(part, HIDDEN) // heads if heads else 0


def _shrink_sections(part: dict[str, Any], before: dict[str, Any]) -> None:
    """Cut a head's frequencies into parts of the same ratios."""
    for inner in parts_of({k: v for k, v in part.items() if k.startswith("rope")}):
        sections = inner.get(SECTIONS)
        if sections and head_width(part) != head_width(before):
            turned = inner.get("partial_rotary_factor") or part.get(
                "partial_rotary_factor"
            )
            total = int(head_width(part) * (turned or 1)) // 2
            inner[SECTIONS] = shares(sections, total)


def shares(parts: list[int], total: int) -> list[int]:
    """A number cut into whole parts of about the same ratios, equal ones alike.

    What is left over goes to the first that is like no other.
    """
    cut = [part * total // sum(parts) for part in parts]
    single = [n for n, part in enumerate(parts) if parts.count(part) == 1]
    cut[single[0] if single else -1] += total - sum(cut)
    return cut
