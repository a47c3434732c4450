"""Tokens of a shrunk configuration: all that have a meaning, and few between them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from allocator.families._shrunk_widths import each, numbers_of, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 16  # numbers between two that have a meaning
LOW = 32  # numbers that stay
MOST = 512
TOKEN = re.compile(
    r"(?:token|bos|eos|pad|sep|cls|start|end|newline|eod)_(?:id|ids|index)$|_patch_id$"
)
WORDS = re.compile(
    r"(?<!mel_)(?<!type_)vocab_size(?:_per_layer_input)?$|vocab_offset$|token_offset$"
)
# names of tokens, most of which are those of a picture's codebook
NAMES = "vocabulary_map"
PREFIX = 6  # letters that they have in common
# how many of a picture's or a sound's tokens there are
CODES = re.compile(r"codebook_size$|mel_vocab_size$|^num_embeddings$")


def shrink_words(plain: dict[str, Any]) -> None:
    """Move tokens together: order and neighbours stay, and all are inside.

    Codebooks become as large as the gaps between tokens, and stay inside of them. A
    vocabulary of no more than 512 stays.
    """
    text = plain.get("text_config") or plain
    if (text.get("vocab_size") or MOST + 1) <= MOST:
        return
    for part in parts_of(plain):
        if part.get(NAMES):
            part[NAMES] = _fewer(part[NAMES])
        for key, value in part.items():
            if CODES.search(key):
                part[key] = each(value, lambda n: min(n, FEW))
    _move_together(list(_places(plain)))
    _make_room(plain)


def _places(plain: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Parts and settings that are numbers of tokens."""
    for part in parts_of(plain):
        for key in part:
            if TOKEN.search(key) or WORDS.search(key):
                yield part, key
        yield from ((part[NAMES], name) for name in part.get(NAMES) or {})


def _move_together(places: list[tuple[dict[str, Any], str]]) -> None:
    found = sorted({n for p, k in places for n in numbers_of(p[k]) if n >= 0})
    new = {n: n for n in found if n <= LOW}
    last = LOW
    for before, number in pairwise([LOW, *(n for n in found if n > LOW)]):
        last += min(number - before, FEW)
        new[number] = last
    for part, key in places:
        part[key] = each(part[key], lambda n: new.get(n, n))


def _fewer(names: dict[str, int]) -> dict[str, int]:
    """A name for each of a small codebook, and all that are none of a codebook."""
    kept: dict[str, int] = {}
    for name, number in sorted(names.items(), key=lambda item: item[1]):
        if sum(other[:PREFIX] == name[:PREFIX] for other in kept) < FEW:
            kept[name] = number
    return kept


def _make_room(plain: dict[str, Any]) -> None:
    """Let the language model's vocabulary hold all tokens; by default it may not."""
    parts = list(parts_of(plain))
    tokens = [n for p in parts for k in p if TOKEN.search(k) for n in numbers_of(p[k])]
    tokens += [n for part in parts for n in (part.get(NAMES) or {}).values()]
    text = plain.get("text_config") or plain
    before = text.get("vocab_size")
    for part in parts:
        if before is not None and part.get("vocab_size") == before:
            part["vocab_size"] = max([before, *(n + 1 for n in tokens)])
