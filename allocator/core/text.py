"""Text from outside, fit to be shown: names from data, models and databases."""

from __future__ import annotations

import unicodedata

# controls (C0, C1), formats (bidi overrides, invisible signs), lone surrogates, and
# separators of lines: what moves a cursor, reorders a line or shows nothing
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
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


def _escaped(text: str) -> str:
    return "".join(
        each.encode("unicode_escape").decode()
        if unicodedata.category(each) in UNSEEN and each not in JOINERS
        else each
        for each in text
    )
