"""Which blocks of a long row a shrunk one keeps: one of every kind.

A configuration says what a block is by lists with an entry for each (`layer_types`), by
lists of blocks (`deepstack_visual_indexes`), by first or last blocks
(`first_k_dense_replace`), or by every so manieth (`cross_attention_frequency`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from allocator.families._shrunk_widths import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FEWEST = 2
# the number of a row's blocks; the first that a configuration has
DEPTHS = (
    "num_hidden_layers",
    "depth",
    "num_layers",
    "n_layers",
    "layers",
    "encoder_layers",
    "decoder_layers",
    "conf_num_hidden_layers",
)
# numbers of blocks of further rows
COUNTS = re.compile(r"(?:^|_)(?:num(?:_\w+)?_layers|layers|depth|depths)$")
LAST = re.compile(r"num_kv_shared_layers$")
FIRST = re.compile(r"first_k_|_layer_id$|layer_index_(?:start|end)$|max_window_layers$")
EVERY = re.compile(r"_(?:frequency|interval|layer_step)$|n_layers_per_|sparse_step$")
# lists of blocks in this row, and in the tower's where the whole model names them
LISTED = re.compile(r"indexes$|indices$|idxs$|_layers$")
OF_TOWER = re.compile(r"vision_(?:feature_)?layers?$|target_layers$")
# whose entries are numbers of blocks
SOURCES = "kv_source_layers"
PER_LAYER = "per_layer_config"


def shrink_depth(plain: dict[str, Any]) -> None:
    """Keep two blocks of each row of a configuration, or one of every kind."""
    tower = _tower_of(plain)
    if tower is not None:
        _shrink_row(tower, [(plain, k) for k in plain if OF_TOWER.search(k)])
    for part in parts_of(plain):
        if part is not tower:
            _shrink_row(part, ())


def _tower_of(plain: dict[str, Any]) -> dict[str, Any] | None:
    found = plain.get("vision_config")
    return found if isinstance(found, dict) else None


def _shrink_row(
    part: dict[str, Any], elsewhere: Iterable[tuple[dict[str, Any], str]]
) -> None:
    name = next((n for n in DEPTHS if _is_count(part.get(n))), None)
    depth = part[name] if name else 0
    elsewhere = list(elsewhere)
    kept = _kept(part, depth, elsewhere)
    for key, value in part.items():
        if value == depth and COUNTS.search(key):
            part[key] = len(kept)
        else:
            part[key] = _fitted(key, value, depth, kept)
    for whole, key in elsewhere:
        whole[key] = _each(whole[key], lambda n: _hidden(n, depth, kept))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _kept(
    part: dict[str, Any], depth: int, elsewhere: Iterable[tuple[dict[str, Any], str]]
) -> list[int]:
    """Numbers of the blocks to keep: the first of every kind, two at least."""
    told = [
        *(_told(key, value, depth) for key, value in part.items()),
        *(_read(whole[key], depth) for whole, key in elsewhere),
    ]
    kinds = [tuple(tell(n) for tell in told if tell) for n in range(depth)]
    first = {kind: n for n, kind in reversed(list(enumerate(kinds)))}
    kept = sorted(first.values())
    kept = (
        sorted(
            {*kept, *[n for n in range(depth) if n not in kept][: FEWEST - len(kept)]}
        )
        if len(kept) < FEWEST
        else kept
    )
    period = _period(part)
    if period > 1:
        # what is counted from the first block has to stay where it is
        return list(range(min(depth, max(kept[-1] + 1, period))))
    return kept


def _period(part: dict[str, Any]) -> int:
    every = [v for k, v in part.items() if EVERY.search(k) and _is_count(v)]
    return max(every, default=1)


def _told(key: str, value: Any, depth: int) -> Callable[[int], object] | None:
    """What a setting says of each block; None: nothing."""
    if key == PER_LAYER and isinstance(value, dict):
        return lambda n: tuple(sorted(_at(value, n)))
    if LAST.search(key) and _is_count(value):
        return lambda n: n >= depth - value
    if FIRST.search(key) and _is_count(value):
        return lambda n: n >= value
    if EVERY.search(key) and _is_count(value):
        return lambda n: n % value == 0
    if _is_listed(key, value, depth):
        return lambda n: n in value
    if _is_per_block(value, depth) and key != SOURCES:
        return lambda n: repr(value[n])
    return None


def _read(value: Any, depth: int) -> Callable[[int], object]:
    """Which blocks' outcomes are read; 0 is what the first is given."""
    values = value if isinstance(value, list) else [value]
    blocks = {
        (n if n >= 0 else n + depth + 1) - 1 for n in values if isinstance(n, int)
    }
    return lambda n: n in blocks


def _at(layers: dict[Any, Any], number: int) -> Any:
    return next((v for k, v in layers.items() if int(k) == number), {})


def _is_per_block(value: Any, depth: int) -> bool:
    return isinstance(value, list) and depth > 1 and len(value) == depth


def _is_listed(key: str, value: Any, depth: int) -> bool:
    """Whether a setting lists blocks of its own row."""
    return (
        bool(LISTED.search(key))
        and isinstance(value, list)
        and bool(value)
        and all(isinstance(n, int) and 0 <= n < depth for n in value)
        and sorted(set(value)) == value
    )


def _fitted(key: str, value: Any, depth: int, kept: list[int]) -> Any:
    """A setting of the whole row as the kept blocks have it."""
    if key == PER_LAYER and isinstance(value, dict):
        # keys are padded with zeros
        return {
            f"{new:0{len(next(iter(value)))}d}": _at(value, old)
            for new, old in enumerate(kept)
            if _at(value, old)
        }
    if LAST.search(key) and _is_count(value):
        return sum(n >= depth - value for n in kept)
    if FIRST.search(key) and _is_count(value):
        return sum(n < value for n in kept) if depth else value
    if key == SOURCES and _is_per_block(value, depth):
        return [_nearest(value[n], kept) for n in kept]
    if _is_listed(key, value, depth):
        return [new for new, old in enumerate(kept) if old in value]
    if _is_per_block(value, depth):
        return [value[n] for n in kept]
    if COUNTS.search(key):
        return _each(value, lambda n: min(n, FEWEST))
    return value


def _nearest(number: int, kept: list[int]) -> int:
    """Where the last kept block at or before a number stands."""
    return max((new for new, old in enumerate(kept) if old <= number), default=0)


def _hidden(number: int, depth: int, kept: list[int]) -> int:
    """A number of hidden states, of which 0 is what the first block is given."""
    block = (number if number >= 0 else number + depth + 1) - 1
    new = _nearest(block, kept) + 1 if block >= 0 else 0
    return new if number >= 0 else new - len(kept) - 1


def _each(value: Any, change: Callable[[int], int]) -> Any:
    if isinstance(value, list):
        return [_each(each, change) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return change(value)
    return value
