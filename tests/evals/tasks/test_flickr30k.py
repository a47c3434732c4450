from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allocator.core.errors import DataError, ReplyError
from allocator.core.ports import SPLITS, Ranked, Selection
from evals.splits import check_disjoint
from evals.tasks.flickr30k import PLUGIN
from tests.evals.data_folders import captions_of, read, write, write_flickr30k

if TYPE_CHECKING:
    from pathlib import Path

SEED_0 = Selection()
PARTS = {"train": range(1, 141), "val": range(201, 221), "test": range(301, 311)}
SOURCE = "dataset_flickr30k.json"
# three images with two, one and three captions
EXAMPLES = PLUGIN.examples
OWNERS = [0, 0, 1, 2, 2, 2]


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flickr30k")
    write_flickr30k(folder, PARTS)
    return folder


def ranked(texts: Any, images: Any) -> list[Ranked]:
    """Predictions for the examples from tables [3, 6] and [6, 3]."""
    rows = [[images[i] for i in range(6) if OWNERS[i] == image] for image in range(3)]
    return [Ranked(each, own) for each, own in zip(texts, rows, strict=True)]


def test_a_sample_has_an_image_and_its_captions_to_match(official: Path) -> None:
    for sample in PLUGIN.samples(official, "evaluation", SEED_0):
        assert sample.image == official / "flickr30k-images" / sample.id
        assert (sample.prompt, sample.text) == ("match", "")
        assert list(sample.references) == captions_of(int(sample.id[:-4]))


def test_the_published_splits_are_followed(official: Path) -> None:
    found = {split: PLUGIN.samples(official, split, SEED_0) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [128, 20, 10]
    for samples, images in zip(found.values(), PARTS.values(), strict=True):
        assert {int(sample.id[:-4]) for sample in samples} <= set(images)
    check_disjoint(**found)


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_alone_decides_the_order(official: Path, split: Any) -> None:
    first, again, other = (
        PLUGIN.samples(official, split, Selection(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_fraction_is_a_share_of_the_test_images(official: Path) -> None:
    whole = PLUGIN.samples(official, "evaluation", Selection(0, 1.0, "1k"))
    assert whole == PLUGIN.samples(official, "evaluation", SEED_0)
    assert PLUGIN.samples(official, "evaluation", Selection(0, 0.4)) == whole[:4]
    assert len(PLUGIN.samples(official, "search", Selection(0, 0.4))) == 20


def test_a_folder_of_several_tasks_has_one_for_flickr30k(
    tmp_path: Path, official: Path
) -> None:
    (tmp_path / "flickr30k").symlink_to(official)
    (sample, *_) = PLUGIN.samples(tmp_path, "search", SEED_0)
    assert sample.image.parent == tmp_path / "flickr30k" / "flickr30k-images"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": []}, "image 1.jpg has an empty or no caption in dataset_fl"),
        ({"sentences": [{"raw": " "}]}, "image 1.jpg has an empty or no caption in"),
        ({"sentences": [{"tokens": []}]}, "'raw' of type str is missing"),
        ({"sentences": ["a", 3]}, "'raw' of type str is missing"),
        ({"filename": "2.jpg"}, "has two entries of the same id '2.jpg'"),
        ({"filename": 3}, "'filename' of type str is missing"),
        ({"filename": "9.jpg"}, r"entry 9.jpg of dataset_.* is missing: .*9\.jpg'"),
        ({"split": None}, "'split' of type str is missing"),
    ],
)
def test_an_entry_of_another_shape_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write_flickr30k(tmp_path, {"train": range(1, 3)})
    content = read(tmp_path / SOURCE)
    content["images"][0].update(change)
    write(tmp_path / SOURCE, content)
    with pytest.raises(DataError, match=message) as caught:
        PLUGIN.samples(tmp_path, "calibration", SEED_0)
    assert SOURCE in str(caught.value)


def test_a_split_without_images_is_named(tmp_path: Path) -> None:
    write_flickr30k(tmp_path, {"train": range(1, 3)})
    with pytest.raises(DataError, match=f"{SOURCE} in .* no images of split 'test'"):
        PLUGIN.samples(tmp_path, "evaluation", SEED_0)


def test_the_score_is_the_mean_of_both_recalls_whatever_the_number_of_captions() -> (
    None
):
    texts = np.zeros((3, 6))
    texts[0, 1] = 1.0  # its second caption: found
    texts[1, 5] = 1.0  # somebody else's
    texts[2, 4] = 1.0  # found
    images = np.zeros((6, 3))
    images[[0, 1, 2, 3, 4, 5], [0, 2, 1, 2, 0, 2]] = 1.0  # 4 of 6 found
    score = PLUGIN.score(ranked(texts, images), EXAMPLES)
    assert score.details["text recall@1"] == pytest.approx(100 * 2 / 3)
    assert score.details["image recall@1"] == pytest.approx(100 * 4 / 6)
    assert score.mean == pytest.approx(100 * (2 / 3 + 4 / 6) / 2)
    # half of each own recall; 3 images and 6 captions weigh a caption 1/2 of an image
    assert score.values == pytest.approx((50 + 25, 0 + 25, 50 + 50))
    assert set(score.details) == {
        f"{kind} recall@{k}" for kind in ("text", "image") for k in (1, 5, 10)
    }
    assert score.details["image recall@5"] == 100


def test_the_mean_is_exact_for_random_similarities() -> None:
    random = Random(0)
    for _ in range(20):
        texts = [[random.random() for _ in range(6)] for _ in range(3)]
        images = [[random.random() for _ in range(3)] for _ in range(6)]
        score = PLUGIN.score(ranked(texts, images), EXAMPLES)
        recalls = (score.details["text recall@1"], score.details["image recall@1"])
        assert score.mean == pytest.approx(sum(recalls) / 2)


def test_similarities_that_tell_nothing_score_nothing() -> None:
    nothing = ranked(np.full((3, 6), np.nan), np.full((6, 3), np.nan))
    assert PLUGIN.score(nothing, EXAMPLES).mean == 0


RIGHT_TEXTS, RIGHT_IMAGES = [0.0] * 6, [[0.0] * 3]


@pytest.mark.parametrize(
    ("texts", "images", "message"),
    [
        (RIGHT_TEXTS[1:], RIGHT_IMAGES, r"have shape \[5\], not \[6\]"),
        ([RIGHT_TEXTS], RIGHT_IMAGES, r"have shape \[1, 6\], not \[6\]"),
        (0.0, RIGHT_IMAGES, r"have shape \[\], not \[6\]"),
        (RIGHT_TEXTS, RIGHT_IMAGES * 2, r"have shape \[2, 3\], not \[1, 3\]"),
        (RIGHT_TEXTS, [[0.0] * 4], r"have shape \[1, 4\], not \[1, 3\]"),
        (RIGHT_TEXTS, [[0.0], 0.0], r"are not numbers of shape \[1, 3\]"),
        (["a"] * 6, RIGHT_IMAGES, r"are not numbers of shape \[6\]"),
        ({}, RIGHT_IMAGES, r"are not numbers of shape \[6\]"),
    ],
)
def test_tables_of_another_shape_are_refused(
    texts: Any, images: Any, message: str
) -> None:
    predictions = ranked(np.zeros((3, 6)), np.zeros((6, 3)))
    predictions[1] = Ranked(texts, images)
    with pytest.raises(ReplyError, match=f"sample {EXAMPLES[1].id} {message}"):
        PLUGIN.score(predictions, EXAMPLES)
