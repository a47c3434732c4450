"""Texts brought into a form in which they are compared, meaning kept.

Published normalizations of answers are made for short English words: SQuAD's takes
"3.5" for "35", VQA's "-5" for "5" and "A+" for no answer at all. Here marks that belong
to a number stay, and nothing is dropped that tells two answers apart.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# the full-width forms of ASCII, and the blank as wide as they are
WIDE = {0xFF01 + n: 0x21 + n for n in range(94)} | {0x3000: " "}
# marks that direct a line of text or join none of its letters, and are not seen
UNSEEN = dict.fromkeys(
    [0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
# the same sign, typeset
TYPESET = {0x2212: "-", 0x2018: "'", 0x2019: "'"}
FOLDED = WIDE | UNSEEN | TYPESET | {0xFEFF: None}
DIGIT = re.compile(r"\d")
# scripts that put no blanks between words: each letter is a word here
SPACELESS = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff])"
)
# what stands between words; inside a number a mark is part of it
BETWEEN = re.compile(
    r"""[;!?"()\[\]{}*_`~|¡¿«»…\u201c-\u201f\u2039\u203a\u3001\u3002\u300c-\u300f]"""
    r"""|[\u060c\u061b\u061f]"""
    r"""|[,:/](?!\d)|(?<!\d)[,:/]|\.(?!\d)|(?<=[^\W\d_])\."""
    r"""|-(?!\d)|(?<=[^\W\d_])-(?=[^\W\d_])|(?<!\w)'|'(?!\w)"""
)


def unified(text: str) -> str:
    r"""One form of what Unicode can write in several.

    Composed letters (Unicode's form NFC), full-width forms of ASCII as ASCII, decimal
    digits of any script as 0 to 9, no marks of direction. Not NFKC, which would take
    "10²" for "102".

    >>> unified("\uff13.\uff15 \u0663")
    '3.5 3'
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text.translate(FOLDED))
    digits = set(DIGIT.findall(text))
    return text.translate(
        {ord(each): str(unicodedata.decimal(each)) for each in digits}
    )


# a search compares the same few words many times over
@lru_cache(maxsize=1 << 14)
def comparable(text: str) -> str:
    r"""A text without capitals, blanks around and beside each other, final periods.

    >>> comparable(" Traffic\n Light. ")
    'traffic light'
    >>> comparable("3.5") == comparable("35")
    False
    """
    plain = " ".join(unified(text).split()).casefold()
    return plain.rstrip(". ") or plain


@lru_cache(maxsize=1 << 14)
def words(text: str) -> tuple[str, ...]:
    """The words of a text, without capitals and the marks of a sentence.

    Numbers, amounts and names of parts stay whole.

    >>> words("It's a black-and-white cat, 3.5 kg (-5%).")
    ("it's", 'a', 'black', 'and', 'white', 'cat', '3.5', 'kg', '-5%')
    """
    spaced = SPACELESS.sub(r" \1 ", unified(text).casefold())
    return tuple(BETWEEN.sub(" ", spaced).split())
