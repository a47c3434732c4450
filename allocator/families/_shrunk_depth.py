"""Which blocks of a long row a shrunk one keeps: one of every kind.

A configuration says what a block is by lists with an entry for each (`layer_types`), by
lists of blocks (`deepstack_visual_indexes`), by first or last blocks
(`first_k_dense_replace`), or by every so manieth (`cross_attention_frequency`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.families._shrunk_widths import each, numbers_of, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
EVERY = re.compile(r"_(?:frequency|interval|layer_step)$|sparse_step$")
LISTED = re.compile(r"indexes$|indices$|idxs$|_layers$")
# of the tower, or of the language model, where another part names them
OF_TOWER = re.compile(r"vision_(?:feature_)?layers?$|^insert_layer_id$")
OF_TEXT = re.compile(r"spatial_target_layers$")
# of this row, whose outcomes something else reads
READ = re.compile(r"intermediate_layers_indices$|deepstack_visual_indexes$")
# behind which patches are merged: blocks before it and behind are of two kinds
INSERTED = "insert_layer_id"
# pairs of a block of the tower and one of the language model
PAIRS = "deepstack_layer_map"
# whose entries are numbers of blocks
SOURCES = "kv_source_layers"
PER_LAYER = "per_layer_config"
# residual streams that are cut off after so many blocks; all blocks are of one kind
STREAMS = "n_layers_per_attn_res_block"


@dataclass(frozen=True)
class Row:
    """A row of `depth` blocks, of which those numbered `kept` stay."""

    depth: int
    kept: tuple[int, ...]

    def place(self, number: int) -> int:
        """Where the last kept block at or before a number stands."""
        before = [new for new, old in enumerate(self.kept) if old <= number]
        return max(before, default=0)

    def read(self, number: int) -> int:
        """Where an outcome stands that is read of a row.

        Some count the input of the first block as 0, others its outcome. Both find
        theirs, as block and the one before it are kept.
        """
        if number in self.kept:
            return self.kept.index(number)
        block = (number if number >= 0 else number + self.depth + 1) - 1
        new = self.place(block) + 1 if block >= 0 else 0
        return new if number >= 0 else new - len(self.kept) - 1


def shrink_depth(plain: dict[str, Any]) -> None:
    """Keep two blocks of each row of a configuration, or one of every kind."""
    parts = list(parts_of(plain))
    towers, texts = (
        [p[name] for p in parts if isinstance(p.get(name), dict)]
        for name in ("vision_config", "text_config")
    )
    for part in parts:
        if part.get(PAIRS):
            part[PAIRS] = [list(pair) for pair in part[PAIRS]]
    pairs = [pair for part in parts for pair in part.get(PAIRS) or []]
    of_tower = [(p, k) for p in parts for k in p if OF_TOWER.search(k)]
    of_text = [(p, k) for p in parts for k in p if OF_TEXT.search(k)]
    for part in parts:
        readers: list[tuple[Any, Any]] = []
        if towers and part is towers[0]:
            # what a tower says of its own blocks is told with them
            of_tower = [(whole, key) for whole, key in of_tower if whole is not part]
            readers = [*of_tower, *((pair, 0) for pair in pairs)]
        elif texts and part is texts[0]:
            readers = [*of_text, *((pair, 1) for pair in pairs)]
        _shrink_row(part, readers)


def _shrink_row(part: dict[str, Any], readers: Sequence[tuple[Any, Any]]) -> None:
    """Keep fewer blocks; `readers` are settings elsewhere that name some."""
    depth = next((part[n] for n in DEPTHS if _is_count(part.get(n))), 0)
    row = Row(depth, _kept(part, depth, readers))
    for key, value in part.items():
        part[key] = _fitted(key, value, row)
    for whole, key in readers:
        whole[key] = each(whole[key], row.read)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _kept(
    part: dict[str, Any], depth: int, readers: Sequence[tuple[Any, Any]]
) -> tuple[int, ...]:
    """Numbers of the blocks to keep: the first of every kind, two at least."""
    told = [_told(key, value, depth) for key, value in part.items()]
    kinds = [tuple(tell(n) for tell in told if tell) for n in range(depth)]
    first = {kind: n for n, kind in reversed(list(enumerate(kinds)))}
    read = [n for k, v in part.items() if READ.search(k) for n in numbers_of(v)]
    chosen = {*first.values(), *_read(readers, depth), *read}
    if depth and (readers or read):
        # else a block that is read by its number is taken for the one that all read
        chosen.add(depth - 1)
    for number in range(min(depth, FEWEST)):
        if len(chosen) < FEWEST:
            chosen.add(number if number not in chosen else number + 1)
    every = [v for k, v in part.items() if EVERY.search(k) and _is_count(v)]
    period = max(every, default=1)
    if period > 1 and chosen:
        # what is counted from the first block has to stay where it is
        chosen = set(range(min(depth, max(*chosen, period - 1) + 1)))
    return tuple(sorted(chosen))


def _read(readers: Sequence[tuple[Any, Any]], depth: int) -> set[int]:
    """Blocks whose outcomes are read, whether their inputs count as 0 or they do."""
    found = [number for whole, key in readers for number in numbers_of(whole[key])]
    numbers = {n if n >= 0 else n + depth + 1 for n in found}
    return {n - back for n in numbers for back in (0, 1) if 0 <= n - back < depth}


def _told(key: str, value: Any, depth: int) -> Callable[[int], object] | None:
    """What a setting says of each block; None: nothing."""
    tell: Callable[[int], object] | None = None
    if key == PER_LAYER and isinstance(value, dict):

        def tell(number: int) -> object:
            return tuple(sorted(_at(value, number)))
    elif _is_count(value):
        tell = _counted(key, value, depth)
    elif _is_listed(key, value, depth):
        tell = value.__contains__
    elif _is_per_block(value, depth) and key != SOURCES:

        def tell(number: int) -> object:
            return repr(value[number])

    return tell


def _counted(key: str, value: int, depth: int) -> Callable[[int], object] | None:
    if LAST.search(key):
        return lambda n: n >= depth - value
    if FIRST.search(key):
        return lambda n: (n >= value, key == INSERTED and n > value)
    return (lambda n: n % value == 0) if EVERY.search(key) else None


def _at(layers: dict[str, Any], number: int) -> Any:
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


def _fitted(key: str, value: Any, row: Row) -> Any:
    """A setting of the whole row as the kept blocks have it."""
    fitted = value
    if key == PER_LAYER and isinstance(value, dict):
        found = {new: _at(value, old) for new, old in enumerate(row.kept)}
        # keys are padded with zeros
        width = len(next(iter(value), ""))
        fitted = {f"{new:0{width}d}": said for new, said in found.items() if said}
    elif key == STREAMS:
        fitted = 1
    elif _is_count(value):
        fitted = _fitted_count(key, value, row)
    elif isinstance(value, list):
        fitted = _fitted_list(key, value, row)
    return fitted


def _counts(key: str) -> bool:
    """Whether a setting counts blocks, and does not name those of another part."""
    return bool(COUNTS.search(key)) and not (
        OF_TOWER.search(key) or OF_TEXT.search(key)
    )


def _fitted_count(key: str, value: int, row: Row) -> int:
    if LAST.search(key):
        return sum(n >= row.depth - value for n in row.kept)
    if FIRST.search(key) and row.depth:
        return sum(n < value for n in row.kept)
    if _counts(key):
        return len(row.kept) if value == row.depth else min(value, FEWEST)
    return value


def _fitted_list(key: str, value: list[Any], row: Row) -> list[Any]:
    fitted = value
    if key == SOURCES and _is_per_block(value, row.depth):
        fitted = [row.place(value[n]) for n in row.kept]
    elif _is_listed(key, value, row.depth):
        fitted = [new for new, old in enumerate(row.kept) if old in value]
    elif _is_per_block(value, row.depth):
        fitted = [value[n] for n in row.kept]
    elif _counts(key):
        fitted = each(value, lambda n: min(n, FEWEST))
    return fitted
