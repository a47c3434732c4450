"""Text from outside, fit to be shown: names from data, models and databases."""

from __future__ import annotations

import unicodedata

# controls (C0, C1), formats (bidi overrides, invisible signs), lone surrogates, and
# separators of lines: what moves a cursor, reorders a line or shows nothing
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# digits of a whole number that fits into 64 bits
LONGEST_COUNT = 18
# joiners: parts of words in some scripts, and of some pictograms
JOINERS = "\u200c\u200d"


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""Text in one line, each character that does not show in its escaped form.

    So is what the encoding of a terminal or a file lacks.

    >>> visible("a\x1b[31m\u202eb [bold]")
    'a\\x1b[31m\\u202eb [bold]'
    """
    if not text.isprintable():
        text = _escaped(text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def is_count(text: str) -> bool:
    """Whether a text is a whole number in digits, and not longer than any count is.

    `str.isdigit` knows digits that `int` does not read.

    >>> is_count("128"), is_count("\N{SUPERSCRIPT TWO}"), is_count("9" * 5000)
    (True, False, False)
    """
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_COUNT


def _escaped(text: str) -> str:
    return "".join(
        each.encode("unicode_escape").decode()
        if unicodedata.category(each) in UNSEEN and each not in JOINERS
        else each
        for each in text
    )
