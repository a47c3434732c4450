"""BLEU of captions, as the COCO caption evaluation computes it.

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation" (ACL
2002), with the constants of bleu_scorer.py in https://github.com/tylin/coco-caption
(on PyPI: pycocoevalcap), option "closest": a score is only comparable with published
ones if it repeats them.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from allocator.core.errors import DataError, ReplyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Caption = Sequence[str]

# They keep every ratio defined: a precision without any n-gram is 1e-15 / 1e-9, and not
# a division by zero; that of all n-grams is 1e-9 / n short of 1.
TINY = 1e-15
SMALL = 1e-9


def corpus_bleu(
    candidates: Sequence[Caption],
    references: Sequence[Sequence[Caption]],
    order: int = 4,
) -> tuple[float, ...]:
    """Score all captions of a corpus together.

    N-grams that a candidate shares with a reference count as often as the reference
    with most of them has them. The brevity penalty compares the words of all
    candidates with those of the references closest to them in length (the shorter of
    two equally close).

    >>> reference = "a cat sits on the mat".split()
    >>> [round(bleu, 3) for bleu in corpus_bleu([reference[:5]], [[reference]])]
    [0.819, 0.819, 0.819, 0.819]

    Args:
        candidates: the tokens of one caption per image.
        references: per image, the tokens of at least one caption.
        order: longest n-gram, at least 1.

    Returns:
        BLEU-1 to BLEU-`order`, 0 to 1, each the geometric mean of its precisions times
        the brevity penalty.

    Raises:
        DataError: there is no image, or an image has no reference.
        ReplyError: not one candidate per image, or text where tokens are expected.
    """
    check_references(references)
    check_candidates(candidates, len(references))
    correct, guessed = [0] * order, [0] * order
    n_words = n_reference_words = 0
    for candidate, own in zip(candidates, references, strict=True):
        length = len(candidate)
        n_words += length
        n_reference_words += _closest(length, own)
        for n in range(1, order + 1):
            guessed[n - 1] += max(0, length - n + 1)
            correct[n - 1] += _shared(candidate, own, n)
    brevity = _brevity(n_words, n_reference_words)
    product, found = 1.0, []
    for n in range(order):
        product *= (correct[n] + TINY) / (guessed[n] + SMALL)
        found.append(product ** (1 / (n + 1)) * brevity)
    return tuple(found)


def check_references(references: Sequence[Sequence[Caption]]) -> None:
    """Raise DataError unless every image has references, and these are tokens."""
    if not references:
        raise DataError("captions without any reference cannot be scored")
    for number, own in enumerate(references):
        if isinstance(own, str) or any(isinstance(caption, str) for caption in own):
            raise DataError(
                f"the references of image {number} are text, not lists of tokens"
            )
        if not own:
            raise DataError(f"image {number} has no reference caption")


def check_candidates(candidates: Sequence[Caption], n_images: int) -> None:
    """Raise ReplyError unless there is one list of tokens per image."""
    if len(candidates) != n_images:
        raise ReplyError(
            f"got {len(candidates)} captions for {n_images} images; "
            "each image needs exactly one"
        )
    for number, caption in enumerate(candidates):
        if isinstance(caption, str):
            raise ReplyError(f"caption {number} is text, not a list of tokens")


def _closest(length: int, references: Sequence[Caption]) -> int:
    lengths = (len(reference) for reference in references)
    return min(lengths, key=lambda each: (abs(each - length), each))


def _shared(candidate: Caption, references: Sequence[Caption], n: int) -> int:
    """How many n-grams of a caption its references have, each at most that often."""
    mine = Counter(_grams(candidate, n))
    if not mine:
        return 0
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= Counter(filter(mine.__contains__, _grams(reference, n)))
    return (mine & most).total()


def _grams(caption: Caption, n: int) -> Iterator[tuple[str, ...]]:
    # not strict: each of them is one word shorter than the one before
    return zip(*(caption[start:] for start in range(n)), strict=False)


def _brevity(n_words: int, n_reference_words: int) -> float:
    ratio = (n_words + TINY) / (n_reference_words + SMALL)
    return math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
