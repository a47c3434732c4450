"""Scores sample by sample, as a study keeps them."""

from __future__ import annotations

import base64
import zlib
from array import array
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TYPE_CHECKING

import numpy as np

from allocator.core.bounded import unpacked
from allocator.core.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

# bytes of all scores: of four million samples
LARGEST = 2**24
# attributes of a study, of its search set and its evaluation set
STRATA, EVALUATION_STRATA = "strata", "evaluation strata"
# the order in which the evaluation set is scored, and what was scored on a part of it
ORDER, PARTS = "evaluation order", "evaluated so far:"


# the letters of base 85, what each counts, and what it is worth by its place in five
_LETTERS = f"{digits}{ascii_uppercase}{ascii_lowercase}!#$%&()*+-;<=>?@^_`{{|}}~"
_CODES = np.zeros(256, dtype=np.int64)
_CODES[list(_LETTERS.encode())] = np.arange(85)
_WEIGHTS = 85 ** np.arange(4, -1, -1, dtype=np.int64)


def encode_scores(values: Sequence[float]) -> str:
    """Numbers as short text, exact in single precision.

    >>> decode_scores(encode_scores([1.0, 0.25]))
    (1.0, 0.25)
    """
    raw = array("f", values).tobytes()
    return base64.b85encode(zlib.compress(raw)).decode()


def decode_scores(text: str) -> tuple[float, ...]:
    """What `encode_scores` wrote.

    Raises:
        StudyError: it is damaged, or unpacks to more than is ever kept.
    """
    found = array("f")
    try:
        found.frombytes(unpacked(_letters(text), LARGEST))
    except (AttributeError, TypeError, ValueError) as error:
        raise StudyError(f"scores that a study keeps are damaged: {error}") from None
    return tuple(found)


def _letters(text: str) -> bytes:
    """What `base64.b85encode` wrote, which Python itself reads letter by letter."""
    missing = -len(text) % 5
    letters = np.frombuffer((text + "~" * missing).encode(), dtype=np.uint8)
    words = _CODES[letters].reshape(-1, 5) @ _WEIGHTS
    whole = words.astype(">u4").tobytes()
    return whole[: len(whole) - missing]
