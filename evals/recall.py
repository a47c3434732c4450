"""Recall of retrieval: is the right caption, or image, among the first k?

As `itm_eval` of https://github.com/salesforce/LAVIS (lavis/tasks/retrieval.py, BLIP and
BLIP-2) computes it, but for ties and NaN. LAVIS takes `numpy.argsort(scores)[::-1]`: of
equal scores the later one comes first, and NaN comes before every number, so a model
that a few bits have broken can score by where its captions stand. Here whatever ties
with the right answer stands before it, and NaN stands last: all-equal scores are a
recall of 0 wherever at least k wrong answers exist, and scores that differ give the
ranks of LAVIS. Captions of two images in the same words always tie, so image to text is
a little lower here where a data set has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import DataError, ReplyError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Scores = NDArray[np.floating]
    Ranks = NDArray[np.int64]


def text_ranks(scores: ArrayLike, owners: ArrayLike) -> Ranks:
    """Rank the best-placed own caption of each image: image to text.

    Only captions of other images stand before it; they do at an equal score, too.

    >>> text_ranks([[0.9, 0.1, 0.5], [0.3, 0.2, 0.1]], owners=[0, 0, 1]).tolist()
    [0, 2]

    Args:
        scores: [images, captions], higher is better; of image i against all captions.
        owners: [captions], the image of each caption; every image has at least one.

    Returns:
        [images], 0 is first. An image whose own captions all score NaN is behind all
        others.

    Raises:
        ReplyError: `scores` is not a table with one column per caption.
        DataError: an owner is not an image, or an image has no caption.
    """
    table, image_of = _table(scores), np.asarray(owners, dtype=np.int64)
    n_images, n_captions = table.shape
    _check(table, (n_images, len(image_of)), image_of)
    n_own = np.bincount(image_of, minlength=n_images)
    if not n_own.all():
        raise DataError(f"image {int(np.argmin(n_own))} has no caption to retrieve")
    own = table[image_of, np.arange(n_captions)]
    best = np.full(n_images, np.nan, dtype=table.dtype)
    np.fmax.at(best, image_of, own)
    # no comparison with NaN holds
    level = np.bincount(image_of, weights=own == best[image_of], minlength=n_images)
    before = np.count_nonzero(table >= best[:, None], axis=1) - level
    ranks: Ranks = np.where(np.isnan(best), n_captions - n_own, before).astype(np.int64)
    return ranks


def image_ranks(scores: ArrayLike, owners: ArrayLike) -> Ranks:
    """Rank the own image of each caption: text to image.

    >>> image_ranks([[0.9, 0.1], [0.3, 0.3], [0.5, float("nan")]], [0, 0, 1]).tolist()
    [0, 1, 1]

    Args:
        scores: [captions, images], higher is better; of caption c against all images.
        owners: [captions], the image of each caption.

    Returns:
        [captions], 0 is first. Images of an equal score stand before the own one; an
        own image that scores NaN is behind all others.

    Raises:
        ReplyError: `scores` is not a table with one row per caption.
        DataError: an owner is not an image.
    """
    table, image_of = _table(scores).T, np.asarray(owners, dtype=np.int64)
    n_images, n_captions = table.shape
    _check(table, (n_images, len(image_of)), image_of)
    own = table[image_of, np.arange(n_captions)]
    before = np.count_nonzero(table >= own, axis=0) - 1
    ranks: Ranks = np.where(np.isnan(own), n_images - 1, before).astype(np.int64)
    return ranks


def recall_at(ranks: ArrayLike, k: int) -> float:
    """Share of ranks below k, in percent; published are k = 1, 5 and 10.

    >>> recall_at([0, 4, 5, 9], 5)
    50.0

    Args:
        ranks: [queries], 0 is first.
        k: how many places count, at least 1.

    Raises:
        ReplyError: there are no ranks.
    """
    places = np.asarray(ranks)
    if not places.size:
        raise ReplyError("the recall of no retrieval at all is not defined")
    return 100.0 * int(np.count_nonzero(places < k)) / places.size


def _table(scores: ArrayLike) -> Scores:
    table = np.asarray(scores)
    if table.ndim != 2:
        raise ReplyError(
            f"scores have shape {list(table.shape)}, not one of images and captions"
        )
    return table if table.dtype.kind == "f" else table.astype(np.float64)


def _check(table: Scores, expected: tuple[int, int], image_of: Ranks) -> None:
    """Refuse a table [images, captions] that does not fit its captions."""
    n_images, n_captions = expected
    if table.shape != expected or not n_captions:
        raise ReplyError(
            f"got scores of {table.shape[1]} captions for {n_captions} captions"
        )
    outside = image_of[(image_of < 0) | (image_of >= n_images)]
    if outside.size:
        raise DataError(f"a caption is of image {outside[0]}, of {n_images} images")
