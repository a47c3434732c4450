"""CIDEr-D of captions, as the task `coco` scores them (`evals/captions.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.captions import score_captions, score_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.own import Metric
    from allocator.core.ports import Sample, Score


class Cider:
    """Scores captions by the words of all references scored together."""

    unit = "CIDEr-D"
    version = 1
    needs = "answers"

    def score(self, replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score captions, one per sample.

        Raises:
            ReplyError: not one caption per sample, or none at all.
            DataError: a sample has no reference.
        """
        return score_captions(replies, samples)

    def within(self, whole: Sequence[Sample]) -> Metric:
        """The same for parts of a set: words weigh as they do in all of it."""
        return PartOfCider(tuple(whole))


@dataclass(frozen=True)
class PartOfCider(Cider):
    """Scores samples of a set by the words of all its references."""

    whole: tuple[Sample, ...]

    def score(self, replies: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score captions, one per sample.

        Raises:
            ReplyError: not one caption per sample, or none at all.
            DataError: a sample has no reference.
        """
        return score_within(self.whole, replies, samples)


PLUGIN: Metric = Cider()
