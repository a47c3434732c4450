"""Accuracy of short answers: agreement with ten people, or with the one right answer.

VQA accuracy: Antol et al., "VQA: Visual Question Answering" (ICCV 2015), as vqaEval.py
in https://github.com/GT-Vision-Lab/VQA computes it: the mean, over the ways to leave
one answer out, of min(1, matches among the others / 3).

TextVQA accuracy: the same mean, but people's answers are normalized as replies are;
m4c_evaluators.py in https://github.com/facebookresearch/mmf (Singh et al., "Towards VQA
Models That Can Read", CVPR 2019) and LLaVA's copy of it.

Exact match: Hudson and Manning, "GQA" (CVPR 2019), as eval.py in eval.zip of
https://cs.stanford.edu/people/dorarad/gqa/evaluate.html computes it.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from evals.text import normalize_answer, normalize_read_answer, remove_punctuation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def vqa_accuracy(predicted: str, answers: Sequence[str]) -> float:
    """Score one reply.

    Args:
        predicted: the reply, in any form; it is normalized.
        answers: what people answered, ten in the official files. Only punctuation is
            removed from them, and not even that where all are equal.

    Returns:
        Percent, 0 to 100, to two decimals.

    Raises:
        DataError: `answers` is empty.
    """
    if not answers:
        raise DataError("a question without human answers cannot be scored")
    comparable = tuple(answers)
    if len(set(answers)) > 1:
        comparable = tuple(map(_without_marks, answers))
    return percent_by_answer(comparable).get(normalize_answer(predicted), 0.0)


def read_answer_accuracy(predicted: str, answers: Sequence[str]) -> float:
    """Score one reply to a question of TextVQA.

    >>> read_answer_accuracy("North Face", ["the north face"] * 2 + ["nike"] * 8)
    60.0

    Args:
        predicted: the reply, in any form; it is normalized.
        answers: what people answered, ten in the official files; so are they.

    Returns:
        Percent, 0 to 100.

    Raises:
        DataError: `answers` is empty.
    """
    known = _percent_by_read_answer(tuple(answers))
    return known.get(normalize_read_answer(predicted), 0.0)


def exact_match(predicted: str, answer: str) -> float:
    """Score one reply to a question that has a single answer.

    GQA's eval.py compares the two as they are, and expects a cleaned prediction. It is
    cleaned as LLaVA does: blanks around it (model_vqa_loader.py), then final periods
    and capitals (scripts/convert_gqa_for_eval.py: `text.rstrip('.').lower()`, both in
    https://github.com/haotian-liu/LLaVA). LAVIS also drops articles and punctuation,
    so "a dog" is right there and wrong here.

    >>> exact_match(" Traffic light.", "traffic light")
    100.0

    Args:
        predicted: the reply, in any form; it is cleaned.
        answer: the right answer, compared as it is; those of GQA are in lower case.

    Returns:
        Percent, 0 or 100.
    """
    return 100.0 * (predicted.strip().rstrip(".").lower() == answer)


_without_marks = lru_cache(maxsize=1 << 15)(remove_punctuation)


# A search scores many replies to one question. The official evaluation part of val2014
# has 21,435 questions, and an entry is a few hundred bytes.
@lru_cache(maxsize=1 << 15)
def percent_by_answer(answers: tuple[str, ...]) -> Mapping[str, float]:
    """VQA accuracy of each answer that people gave, as it is; all others have 0."""
    times = Counter(answers)
    return {text: _percent(n, len(answers)) for text, n in times.items()}


@lru_cache(maxsize=1 << 15)
def _percent_by_read_answer(answers: tuple[str, ...]) -> Mapping[str, float]:
    if not answers:
        raise DataError("a question without human answers cannot be scored")
    return percent_by_answer(tuple(map(normalize_read_answer, answers)))


def _percent(matches: int, n_answers: int) -> float:
    """Mean over leaving out each of the matches, then each of the other answers."""
    total = matches * _credit(matches - 1) + (n_answers - matches) * _credit(matches)
    return round(100 * total / n_answers, 2)


def _credit(matches: int) -> float:
    return min(1.0, matches / 3)
