"""VQA accuracy: agreement with people who were asked the same.

Antol et al., "VQA: Visual Question Answering" (ICCV 2015), as vqaEval.py in
https://github.com/GT-Vision-Lab/VQA computes it (`evals/accuracy.py`). It is made for
ten answers. As the published code takes other numbers: one answer is left out at a time
and three matches among the others are enough, so with three answers the best score is
66.67, with two 33.33, and a single one could never be met, so that it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from evals.accuracy import vqa_accuracy
from evals.metrics._scoring import PerReply

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
    return vqa_accuracy(reply, sample.references)


PLUGIN: Metric = PerReply("VQA accuracy (%)", 1, accuracy)
