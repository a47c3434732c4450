"""A metric that looks at one reply at a time, as most of them do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Score
from evals.tasks._official import check_paired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.ports import Sample


@dataclass(frozen=True)
class PerReply:
    """Scores each reply on its own, 0 to 100; the score is the mean.

    `value` scores a reply to a sample. It may rely on the sample having references.
    """

    unit: str
    version: int
    value: Callable[[str, Sample], float]
    needs: str = "answers"

    def score(self, replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in order.

        Raises:
            ReplyError: not one text per sample, or none at all.
            DataError: a sample has no references, or ones the metric cannot use.
        """
        check_paired(replies, samples, str, "replies")
        for sample in samples:
            if not sample.references:
                raise DataError(f"sample {sample.id} has no answer to score against")
        values = tuple(map(self.value, replies, samples))
        return Score(mean=sum(values) / len(values), values=values)


def best_of(value: Callable[[str, str], float]) -> Callable[[str, Sample], float]:
    """The value of a reply against the reference that suits it best."""

    def best(reply: str, sample: Sample) -> float:
        return max(value(reply, reference) for reference in sample.references)

    return best
