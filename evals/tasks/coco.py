"""COCO captions: describe a photograph in one sentence, as five people did.

Chen et al., "Microsoft COCO Captions: Data Collection and Evaluation Server" (2015). A
data folder has the images and annotations of https://cocodataset.org/#download, and for
the evaluation set "karpathy" the file of Karpathy and Fei-Fei, "Deep Visual-Semantic
Alignments" (CVPR 2015), https://cs.stanford.edu/people/karpathy/deepimagesent/, all
unpacked under their own names:

    dataset_coco.json                     karpathy: test, 5,000 images
    annotations/captions_train2014.json
    annotations/captions_val2014.json     val2014: 40,504 images
    train2014/COCO_train2014_000000000009.jpg ...
    val2014/COCO_val2014_000000000042.jpg ...
    annotations/captions_train2017.json
    annotations/captions_val2017.json     val2017: 5,000 images
    train2017/000000000009.jpg ...
    val2017/000000000139.jpg ...

Only the files of one evaluation set are needed. A file `coco_splits.json` beside them,
{"search": [image ids], "evaluation": [image ids]}, says which images of val2014 to use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Prediction, Sample
from allocator.core.study import CALIBRATION_SIZE
from evals.captions import score_captions, score_within
from evals.tasks._captions import Picture, read_karpathy
from evals.tasks._official import (
    SIZES,
    by_id,
    check_selection,
    field,
    has,
    listed,
    placed,
    read_json,
    share,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Score, Selection, Split, Task

KARPATHY = "dataset_coco.json"
CAPTIONS = "annotations/captions_{subset}.json"
SPLITS_FILE = "coco_splits.json"
# file of each evaluation set
FILES = {
    "karpathy": KARPATHY,
    "val2014": CAPTIONS.format(subset="val2014"),
    "val2017": CAPTIONS.format(subset="val2017"),
}


class COCO:
    """Reads the official files and scores captions by CIDEr-D (`evals/captions.py`)."""

    name = "coco"
    metric = "CIDEr-D"
    version = 1
    needs: Prediction = "reply"
    max_new_tokens = 30
    subsets = tuple(FILES)
    examples = tuple(
        Sample(
            id=str(number),
            image=Path(f"val2014/COCO_val2014_{number:012d}.jpg"),
            prompt="caption",
            text="",
            references=captions,
        )
        for number, captions in (
            (42, ("A dog sleeps on old shoes.", "A dog sleeps on some old shoes.")),
            (73, ("A motorcycle stands by a car.", "A bike stands by a car.")),
            (74, ("A dog lies near a bicycle.", "A dog lies there.", "A bicycle.")),
        )
    )

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Choose the samples of one split; the same seed chooses the same.

        Evaluation is the subset asked for (by default the first whose file is in the
        folder), or a fraction of it. Of karpathy, calibration is 128 images of train
        and search 1,000 of val; of val2014 and val2017, 128 and 1,000 others of the
        training images of that year, or `coco_splits.json` decides. Their order is
        random, so that any prefix is a fair sample.

        Args:
            data: folder with the official files.
            split: which of the three sets.
            selection: the seed decides which images are taken, and their order.

        Raises:
            DataError: a file or image is missing or of another shape, an image has no
                caption, there are too few images, or the selection is an impossible
                one.
        """
        check_selection(selection, self.name, self.subsets)
        subset = selection.subset or _first_subset(data)
        source, pictures = _choose(data, subset, split, selection.seed)
        if split == "evaluation":
            pictures = share(pictures, selection)
        if not pictures:
            raise DataError(f"{source} in {data} has too few images for {split}")
        return tuple(picture.sample("caption", source) for picture in pictures)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score captions, one per sample.

        Raises:
            ReplyError: not one caption per sample, or none at all.
        """
        return score_captions(predictions, samples)

    def within(self, whole: Sequence[Sample]) -> Task:
        """The same for parts of a set: words weigh as they do in all of it."""
        return PartOfCOCO(tuple(whole))


@dataclass(frozen=True)
class PartOfCOCO(COCO):
    """Scores samples of a set by the words of all its references."""

    whole: tuple[Sample, ...]

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score captions, one per sample.

        Raises:
            ReplyError: not one caption per sample, or none at all.
        """
        return score_within(self.whole, predictions, samples)


PLUGIN: Task = COCO()


def _first_subset(data: Path) -> str:
    for subset, file in FILES.items():
        if has(data, file):
            return subset
    raise DataError(
        f"{data} has no captions of COCO: expected {', '.join(FILES.values())}"
    )


def _choose(
    data: Path, subset: str, split: Split, seed: int
) -> tuple[str, list[Picture]]:
    """The pictures of a split and the file that has their captions."""
    if subset == "karpathy":
        pictures = read_karpathy(data, KARPATHY, split, _karpathy_name)
        return KARPATHY, shuffled(pictures, seed)[: SIZES[split]]
    decided = subset == "val2014" and has(data, SPLITS_FILE)
    training = split == "calibration" or (split == "search" and not decided)
    part = subset.replace("val", "train") if training else subset
    source = CAPTIONS.format(subset=part)
    found = _read_captions(data, source, part)
    if decided and not training:
        return source, listed(data, SPLITS_FILE, split, found, source)
    order = shuffled(found.values(), seed)
    if split == "search":
        order = order[CALIBRATION_SIZE:]
    return source, order[: SIZES[split]]


def _karpathy_name(row: object) -> tuple[int, Path]:
    place = Path(field(row, "filepath", str, KARPATHY))
    return (
        field(row, "cocoid", int, KARPATHY),
        place / field(row, "filename", str, KARPATHY),
    )


def _read_captions(data: Path, source: str, part: str) -> dict[int, Picture]:
    """Pictures with all their captions, by number."""
    content = read_json(data, source)
    rows: list[Any] = field(content, "images", list, source)
    pictures = (
        Picture(
            field(row, "id", int, source),
            placed(data / part, field(row, "file_name", str, source), source),
            (),
        )
        for row in rows
    )
    found: dict[int, Picture] = by_id(pictures, source)
    captions: dict[int, list[str]] = {number: [] for number in found}
    seen: set[int] = set()
    rows = field(content, "annotations", list, source)
    for row in rows:
        number = field(row, "image_id", int, source)
        if number not in captions:
            raise DataError(
                f"{source} has a caption of image {number}, which it does not list"
            )
        captions[number].append(field(row, "caption", str, source))
        seen.add(field(row, "id", int, source))
    if len(seen) < len(rows):
        raise DataError(f"{source} has two captions of the same id")
    return {
        number: replace(picture, captions=tuple(captions[number]))
        for number, picture in found.items()
    }
