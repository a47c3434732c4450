"""Flickr30k retrieval: match photographs with the captions that people wrote for them.

Young et al., "From Image Descriptions to Visual Denotations" (TACL 2014), divided as in
Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments" (CVPR 2015). A data folder, or
the folder `flickr30k` in a data folder of several tasks, has the images of
https://shannon.cs.illinois.edu/DenotationGraph/ and the file of
https://cs.stanford.edu/people/karpathy/deepimagesent/ under their own names:

    dataset_flickr30k.json
    flickr30k-images/1007129816.jpg ...
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.errors import ReplyError
from allocator.core.ports import Prediction, Ranked, Sample, Score
from evals.recall import image_ranks, recall_at, text_ranks
from evals.tasks._captions import read_karpathy
from evals.tasks._official import (
    SIZES,
    check_paired,
    check_selection,
    field,
    home,
    share,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from allocator.core.ports import Selection, Split, Task

SOURCE = "dataset_flickr30k.json"
IMAGES = Path("flickr30k-images")
# published recalls are among so many first places
PLACES = (1, 5, 10)


class Flickr30k:
    """Reads the official files and scores similarities by recall at 1.

    Text recall finds a caption of an image among those of all samples, image recall the
    image of a caption among the images of all samples: the fewer the samples, the
    easier, so scores of different sets of samples are not comparable.
    """

    name = "flickr30k"
    metric = "mean of text and image recall at 1 (%)"
    version = 1
    needs: Prediction = "ranking"
    # nothing is generated
    max_new_tokens = 1
    subsets = ("1k",)
    examples = tuple(
        Sample(file, IMAGES / file, "match", "", captions)
        for file, captions in (
            ("36979.jpg", ("Two men talk in a garden.", "Friends stand by a bush.")),
            ("65567.jpg", ("A dancer leaps.",)),
            ("81641.jpg", ("A man climbs.", "A climber on a rock.", "A steep wall.")),
        )
    )

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Choose the samples of one split; the same seed chooses the same.

        A sample is an image; its references are all its captions. Calibration: 128
        images of train; search: 1,000 of the 1,014 of val. Evaluation: the 1,000 of
        test, or the fraction asked for. Their order is random, so that any prefix is a
        fair sample.

        Args:
            data: folder with the official files, or with a folder `flickr30k` of them.
            split: which of the three sets.
            selection: the seed decides which images are taken, and their order.

        Raises:
            DataError: the file or an image is missing or of another shape, an image has
                no caption, a split no images, or the selection is an impossible one.
        """
        check_selection(selection, self.name, self.subsets)
        pictures = read_karpathy(home(data, self.name), SOURCE, split, _name)
        order = shuffled(pictures, selection.seed)[: SIZES[split]]
        if split == "evaluation":
            order = share(order, selection)
        return tuple(picture.sample("match", SOURCE) for picture in order)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score similarities, one `Ranked` per sample, in percent.

        The value of a sample is half of its text recall and half of the image recall of
        its own captions, weighted so that the mean over samples is that of both recalls
        even where some images have more captions than others. The details are all
        recalls.

        Raises:
            ReplyError: not one ranking per sample, none at all, or one that has not a
                number for every caption and image.
        """
        check_paired(predictions, samples, Ranked, "rankings")
        n_own = [len(sample.references) for sample in samples]
        owners = np.repeat(np.arange(len(samples)), n_own)
        texts, images = _tables(predictions, samples)
        by_image, by_text = text_ranks(texts, owners), image_ranks(images, owners)
        details = {
            f"{kind} recall@{k}": recall_at(ranks, k)
            for kind, ranks in (("text", by_image), ("image", by_text))
            for k in PLACES
        }
        own_hits = np.bincount(owners, by_text == 0, minlength=len(samples))
        weight = len(samples) / len(owners)
        values: list[float] = (50 * ((by_image == 0) + weight * own_hits)).tolist()
        return Score(sum(values) / len(values), tuple(values), details)


PLUGIN: Task = Flickr30k()


def _name(row: object) -> tuple[str, Path]:
    file = field(row, "filename", str, SOURCE)
    return file, IMAGES / file


def _tables(
    predictions: Sequence[Ranked], samples: Sequence[Sample]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Similarities [images, captions] and [captions, images]."""
    n_texts = sum(len(sample.references) for sample in samples)
    texts, images = [], []
    for each, sample in zip(predictions, samples, strict=True):
        shape = (len(sample.references), len(samples))
        texts.append(_numbers(each.texts, (n_texts,), sample))
        images.append(_numbers(each.images, shape, sample))
    return np.stack(texts), np.concatenate(images)


def _numbers(
    values: object, shape: tuple[int, ...], sample: Sample
) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ReplyError(
            f"the similarities of sample {sample.id} are not numbers of shape "
            f"{list(shape)}"
        ) from None
    if numbers.shape != shape:
        raise ReplyError(
            f"the similarities of sample {sample.id} have shape "
            f"{list(numbers.shape)}, not {list(shape)}"
        )
    return numbers
