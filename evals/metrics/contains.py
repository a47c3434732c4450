"""The reply has one of the answers in it, word by word.

OCRBench (Liu et al., arXiv 2305.07895) and lmms-eval's tasks for it ask whether the
letters of an answer occur in a reply, capitals aside. Here they have to be words of it,
side by side: "cat" is not in "category" nor "3" in "13", "3.5" or "-3". In scripts
without blanks between words, as Chinese, any letters side by side will do. A reply that
lists everything is right: long replies are favoured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.metrics._scoring import PerReply, best_of
from evals.metrics._words import comparable, words

if TYPE_CHECKING:
    from allocator.core.own import Metric


def contains(reply: str, reference: str) -> float:
    """100 if a reply has the words of an answer in a row, else 0."""
    wanted = words(reference)
    if not wanted:  # marks alone
        return 100.0 * (comparable(reply) == comparable(reference))
    return 100.0 * (_row(wanted) in _row(words(reply)))


def _row(texts: tuple[str, ...]) -> str:
    """Words with something around each that no word has."""
    return "".join(f"\n{text}\n" for text in texts)


PLUGIN: Metric = PerReply("answer contained (%)", 1, best_of(contains))
