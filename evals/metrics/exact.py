"""Exact match: the reply is one of the answers.

Compared without capitals, superfluous blanks and final periods, as LLaVA cleans the
replies that GQA's eval.py compares (scripts/convert_gqa_for_eval.py in
https://github.com/haotian-liu/LLaVA) and as VLMEvalKit's "accuracy" (vqa_eval.py in
https://github.com/open-compass/VLMEvalKit) compares, there without the period; here
answers are treated as replies are, and Unicode's several ways to write a text are one.

Articles and other marks stay. SQuAD's normalization, which drops them, takes "3.5" for
"35" and "1/2" for "12"; VQA's takes "-5" and "<5" for "5", and "A+" for no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.metrics._scoring import PerReply, best_of
from evals.metrics._words import comparable

if TYPE_CHECKING:
    from allocator.core.own import Metric


def exact(reply: str, reference: str) -> float:
    """100 if a reply is the answer, else 0."""
    return 100.0 * (comparable(reply) == comparable(reference))


PLUGIN: Metric = PerReply("exact match (%)", 1, best_of(exact))
