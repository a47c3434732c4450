"""Damage: to bytes, to plain data, to texts, and to the headers of binary files."""

from __future__ import annotations

import json
import struct
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from tests.evals.rows.test_fuzzed_files import PIECES, VALUES, cut

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

# of no field's type, of every field's type, and of none that anybody meant
OTHERS: tuple[Any, ...] = (
    *VALUES,
    *(10**30, -(10**30), 2**63, 1e308, "16", "../../x", "/etc/passwd", "a/b", "..."),
    *([0] * 50, {"bits": 4}, {"bits": 10**20}, [["x", "y"]], "(a+)+$", ".*" * 9),
    *("\u202e", "\x1b[31m", "=1+1", "${HOME}", "{0.__class__}", "%s%n", "1" * 400),
)
# what integers of a header are taken for: nothing, too much, almost right
SIZES = (0, 1, 7, 8, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**64 - 1)
DEEPEST = 60
# bytes of a long seed that one damage is within
WINDOW = 20_000


def damaged(seed: bytes, rng: random.Random) -> bytes:
    """A seed with up to three damages; of JSON most are of its values."""
    if rng.random() < 0.6 and seed[:1] in (b"{", b"["):
        try:
            value = json.loads(seed)
        except ValueError:
            value = None
        if value is not None:
            for _ in range(rng.choice((1, 1, 2, 3))):
                value = other_value(value, rng)
            seed = json.dumps(value).encode()
            if rng.random() < 0.8:
                return seed
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        seed = _sized(seed, rng) if rng.random() < 0.1 else _cut(seed, rng)
    return seed


def _cut(seed: bytes, rng: random.Random) -> bytes:
    """One damage, of a long seed in some part of it."""
    start = rng.randrange(max(1, len(seed) - WINDOW))
    end = start + WINDOW
    return seed[:start] + cut(seed[start:end], rng) + seed[end:]


def _sized(seed: bytes, rng: random.Random) -> bytes:
    """Another number in place of eight, four or two bytes, near the front mostly."""
    form = rng.choice(("<Q", "<I", "<H", ">I", ">H"))
    width = struct.calcsize(form)
    most = max(1, len(seed) - width)
    at = rng.choice((0, rng.randrange(min(64, most)), rng.randrange(most)))
    number = rng.choice(SIZES) % 2 ** (8 * width)
    return seed[:at] + struct.pack(form, number) + seed[at + width :]


def places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every place in plain data: what holds it, and the key or number there."""
    if depth > DEEPEST:
        return
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key], depth + 1)


def other_value(value: Any, rng: random.Random) -> Any:
    """Plain data of which one value is another, is gone, or is there twice."""
    value = deepcopy(value)
    found = list(places(value)) if isinstance(value, dict | list) else []
    if not found or rng.random() < 0.02:
        return rng.choice(OTHERS)
    holder, key = rng.choice(found)
    way = rng.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.25 and isinstance(holder, list):
        holder.insert(key, deepcopy(rng.choice(found)[0]))
    elif way < 0.25:
        holder[str(rng.choice(OTHERS))[:40]] = holder.pop(key)
    elif way < 0.35:
        other, at = rng.choice(found)
        holder[key] = deepcopy(other[at])
    elif way < 0.4:
        holder[key] = nested(rng.choice((2, 30, 300)), rng)
    else:
        holder[key] = deepcopy(rng.choice(OTHERS))
    return value


def nested(depth: int, rng: random.Random) -> Any:
    """Lists and objects within each other."""
    value: Any = rng.choice(OTHERS)
    for _ in range(depth):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def some_text(rng: random.Random, words: tuple[str, ...]) -> str:
    """A text as an option may have it, made of words and of what is none."""
    parts = []
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5))):
        if rng.random() < 0.6:
            parts.append(rng.choice(words))
        else:
            piece = rng.choice((*PIECES, b" " * 3000, b"\t \n", b"\xe2\x82\xac"))
            parts.append(piece.decode(errors="replace"))
    return rng.choice(("", " ", ",", "=", ".")).join(parts)
