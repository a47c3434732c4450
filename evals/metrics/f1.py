"""F1 of words: how many of them a reply and an answer share.

Rajpurkar et al., "SQuAD" (EMNLP 2016), as the official evaluate-v1.1.py computes it:
without capitals, punctuation and articles; the best of the answers. One thing differs:
punctuation that is part of a number stays ("3.5" is not 35, "-5" not 5, "1/2" not 12),
but for commas between thousands. In scripts without blanks between words, as Chinese,
each letter is a word.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from string import punctuation
from typing import TYPE_CHECKING

from evals.metrics._scoring import PerReply, best_of
from evals.metrics._words import SPACELESS, comparable, unified

if TYPE_CHECKING:
    from allocator.core.own import Metric

THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# not those between two digits, nor a sign or period that begins a number
MARK = re.compile(
    r"(?!(?<=\d).(?=\d)|(?<!\w)[-.](?=\.?\d))" + f"[{re.escape(punctuation)}]"
)
ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def f1(reply: str, reference: str) -> float:
    """Percent: harmonic mean of the shares of either's words that the other has."""
    mine, wanted = tokens(reply), tokens(reference)
    if not wanted:  # articles and marks alone
        return 100.0 * (comparable(reply) == comparable(reference))
    shared = (Counter(mine) & Counter(wanted)).total()
    return 200.0 * shared / (len(mine) + len(wanted))


@lru_cache(maxsize=1 << 14)
def tokens(text: str) -> tuple[str, ...]:
    """The words of a text that count."""
    plain = THOUSANDS.sub("", unified(text).lower())
    plain = SPACELESS.sub(r" \1 ", ARTICLE.sub(" ", MARK.sub("", plain)))
    return tuple(plain.split())


PLUGIN: Metric = PerReply("token F1 (%)", 1, best_of(f1))
