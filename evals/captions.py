"""Captions scored by CIDEr-D, and how a part of a set is scored as in all of it.

How much a word counts depends on how rare it is in all references of the samples scored
together, so scores of different sets of samples are not comparable, and an image alone
scores 0. Parts of one set are, within it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from allocator.core.ports import Score
from evals.bleu import corpus_bleu
from evals.cider import CiderD
from evals.ptb import tokenize_caption
from evals.tasks._official import check_paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Sample


def score_captions(captions: Sequence[Any], samples: Sequence[Sample]) -> Score:
    """Score captions, one per sample.

    CIDEr-D and, among the details, BLEU-4 are as pycocoevalcap returns them: about 1.2
    (of at most 10) and 0.4 (of at most 1) for a good model.

    Raises:
        ReplyError: not one caption per sample, or none at all.
        DataError: a sample has no reference.
    """
    check_paired(captions, samples, str, "captions")
    scorer, references = weighed(tuple(sample.references for sample in samples))
    candidates = [tokenize_caption(caption) for caption in captions]
    values = scorer.score(candidates)
    details = {"BLEU-4": corpus_bleu(candidates, references)[-1]}
    return Score(sum(values) / len(values), values, details)


def score_within(
    whole: Sequence[Sample], captions: Sequence[Any], samples: Sequence[Sample]
) -> Score:
    """Score captions of samples of a set by the words of all its references.

    Raises:
        ReplyError: not one caption per sample, or none at all.
        DataError: a sample has no reference.
    """
    plain = score_captions(captions, samples)
    scorer, _ = weighed(tuple(sample.references for sample in whole))
    said = dict(zip((sample.id for sample in samples), captions, strict=True))
    # what nobody asked for scores nothing, and changes no other score
    asked = [tokenize_caption(said.get(sample.id, "")) for sample in whole]
    scores = zip(whole, scorer.score(asked), strict=True)
    known = {sample.id: score for sample, score in scores}
    values = tuple(known[sample.id] for sample in samples)
    return Score(sum(values) / len(values), values, plain.details)


# A search scores the same few sets of samples hundreds of times. An entry of 1,000
# images takes some tens of megabytes.
@lru_cache(maxsize=8)
def weighed(
    captions: tuple[tuple[str, ...], ...],
) -> tuple[CiderD, list[list[list[str]]]]:
    """Scorer and words of the captions that people wrote."""
    words = [[tokenize_caption(caption) for caption in own] for own in captions]
    return CiderD(words), words
