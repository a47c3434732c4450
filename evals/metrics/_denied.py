"""What a reply says is not right, which is none of the choices that it names."""

from __future__ import annotations

import re
from functools import lru_cache

# a letter that stands alone, in brackets or not, and is no article before a word
LETTER = r"[(\[\"']*[{letters}](?![A-Za-z0-9_\u00c0-\u024f'+#])[)\]\"']*"
ARTICLE = r"(?! (?!(?:and|as|because|but|nor|or|since|so)\b)[^\W\d_]{{2,}})"
BETWEEN = r"(?i: (?:be|is|the|either|option|choice|answer|letter))*"
DENIED = (
    rf"(?:(?i:\b(?:not|neither|nor|cannot)|n't)){BETWEEN} {LETTER}{ARTICLE}"
    rf"(?: ?(?:/|\bn?or\b) ?{LETTER}{ARTICLE})*"
    rf"|(?<![A-Za-z0-9_\u00c0-\u024f'-]){LETTER}"
    r" (?:is|are)(?:n't|(?i: (?:not|wrong|incorrect|false)))\b"
)
DENYING = r"\n(?:not|\w+n't|neither|nor|cannot)\n(?:\nbe\n)?"


def without_denied(text: str, letters: str) -> str:
    """A text without letters that it says are not right.

    >>> without_denied("Neither A nor B, but C.", "ABC")
    ', but C.'
    >>> without_denied("(A) is wrong. (B) is right.", "AB")
    '. (B) is right.'
    """
    return _denied(letters).sub("", text).strip(" ")


def without_denied_words(rest: str, row: str) -> str:
    """Words of a text without a choice's words behind one that denies them.

    Both as `evals.metrics.choice` has them, with a line break around each word.
    """
    return re.sub(DENYING + re.escape(row), "\n\n", rest)


@lru_cache(maxsize=26)
def _denied(letters: str) -> re.Pattern[str]:
    return re.compile(DENIED.format(letters=letters))
