"""Tokens of a shrunk configuration: all that have a meaning, and few between them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from allocator.families._shrunk_widths import each, numbers_of, parts_of

FEW = 16  # numbers between two that have a meaning
LOW = 32  # numbers that stay
TOKEN = re.compile(
    r"(?:token|bos|eos|pad|sep|cls|start|end|newline|eod)_(?:id|ids|index)$|_patch_id$"
)
WORDS = re.compile(
    r"(?<!mel_)(?<!type_)vocab_size(?:_per_layer_input)?$|vocab_offset$|token_offset$"
)
# how many of a picture's or a sound's tokens there are
CODES = re.compile(r"codebook_size$|mel_vocab_size$|^num_embeddings$")


def shrink_words(plain: dict[str, Any]) -> None:
    """Move tokens together: order and neighbours stay, and all are inside.

    Codebooks become as large as the gaps between tokens, and stay inside of them.
    """
    parts = list(parts_of(plain))
    keys = [(p, k) for p in parts for k in p if TOKEN.search(k) or WORDS.search(k)]
    found = sorted({n for p, k in keys for n in numbers_of(p[k]) if n >= 0})
    new = {n: n for n in found if n <= LOW}
    last = LOW
    for before, number in pairwise([LOW, *(n for n in found if n > LOW)]):
        last += min(number - before, FEW)
        new[number] = last
    for part, key in keys:
        part[key] = each(part[key], lambda n: new.get(n, n))
    for part in parts:
        for key, value in part.items():
            if CODES.search(key):
                part[key] = each(value, lambda n: min(n, FEW))
    _make_room(parts)


def _make_room(parts: list[dict[str, Any]]) -> None:
    """Let the largest vocabulary hold all tokens; by default it may not."""
    tokens = [n for p in parts for k in p if TOKEN.search(k) for n in numbers_of(p[k])]
    sizes = [p["vocab_size"] for p in parts if isinstance(p.get("vocab_size"), int)]
    for part in parts:
        if sizes and part.get("vocab_size") == max(sizes):
            part["vocab_size"] = max([*sizes, *(n + 1 for n in tokens)])
