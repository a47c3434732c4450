"""VQA accuracy: agreement with people who were asked the same.

Antol et al., "VQA: Visual Question Answering" (ICCV 2015), made for ten answers. As the
published code (vqaEval.py in https://github.com/GT-Vision-Lab/VQA) takes other numbers:
one answer is left out at a time, and three matches among the others are enough. So with
three answers the best score is 66.67, with two 33.33; a single one could never be met,
so that it is refused.

Answers are normalized as replies are, as lmms-eval's `vqav2` and the evaluation of
TextVQA (m4c_evaluators.py in https://github.com/facebookresearch/mmf) do. The task
`vqav2` leaves them their capitals, articles and number words, as the published code
that it follows: no reply could ever match "Red".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from evals.accuracy import percent_by_answer
from evals.metrics._scoring import PerReply
from evals.metrics._words import comparable
from evals.text import normalize_answer

if TYPE_CHECKING:
    from allocator.core.own import Metric
    from allocator.core.ports import Sample


def accuracy(reply: str, sample: Sample) -> float:
    """Percent of VQA accuracy of a reply.

    Raises:
        DataError: there is a single answer.
    """
    if len(sample.references) < 2:
        raise DataError(
            f"sample {sample.id} has one answer; VQA accuracy needs those of several "
            "people, ten as published"
        )
    answers = tuple(map(_normalized, sample.references))
    return percent_by_answer(answers).get(_normalized(reply), 0.0)


def _normalized(text: str) -> str:
    """An answer as it is compared; "A" is one, although it is an article."""
    return normalize_answer(text) or comparable(text)


PLUGIN: Metric = PerReply("VQA accuracy (%)", 1, accuracy)
