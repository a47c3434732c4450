from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from allocator.core.errors import DataError, ModelError
from allocator.embedded import HERE
from allocator.families import _pixels, family_of
from allocator.families._pixels import joined, laid, parted
from tests.families.processors import two_samples

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample


@pytest.fixture
def model() -> Any:
    folder = HERE / "tiny-llava"
    return family_of(folder).load(folder, "cpu")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are read from now on."""
    usual, files = _pixels.read_image, list[Any]()

    def noted(file: Path, **how: Any) -> Any:
        files.append(file)
        return usual(file, **how)

    monkeypatch.setattr(_pixels, "read_image", noted)
    return files


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return two_samples(tmp_path)


def test_a_picture_is_read_once_for_all_batches_that_show_it(
    model: Any, samples: list[Sample], read: list[Path]
) -> None:
    first, second = samples
    both = model.inputs([second, first], answered=True)["pixel_values"]
    assert torch.equal(model.inputs([first])["pixel_values"], both[1:])
    assert torch.equal(model.inputs([second])["pixel_values"], both[:1])
    assert read == [second.image, first.image]
    # another thread's processor shares them, and a picture turned is another one
    model.apart().inputs(samples)
    assert len(read) == 2
    model.inputs([replace(first, upright=False)])
    assert read[2:] == [first.image]


def test_pixels_are_those_that_a_processor_makes_of_all_pictures_at_once(
    model: Any, samples: list[Sample]
) -> None:
    images = [Image.open(each.image).convert("RGB") for each in samples]
    wanted = model.processor.image_processor(images, return_tensors="pt")
    found = model.inputs(samples)["pixel_values"]
    assert torch.equal(found, wanted["pixel_values"])


def test_what_does_not_fit_is_read_again(
    model: Any, samples: list[Sample], read: list[Path]
) -> None:
    model.pixels.limit = 1
    model.inputs(samples)
    model.inputs(samples)
    assert len(read) == 4
    assert model.pixels.held == 0


def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_kept(
    model: Any, samples: list[Sample]
) -> None:
    samples[1].image.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(DataError, match=r"1\.png cannot be read as a picture"):
            model.inputs(samples)
    assert not model.pixels.values
    assert type(model.processor.image_processor).__name__ != "_ByPicture"


def test_pieces_of_other_shapes_are_filled_up_with_zeros() -> None:
    one, two = torch.ones(1, 2, 3), torch.full((2, 3, 1), 2.0)
    found = joined([one, two])
    assert found.shape == (3, 3, 3)
    assert found[0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert found[1].tolist() == found[2].tolist() == [[2, 0, 0]] * 3


def test_pixels_in_one_row_are_parted_and_joined_along_it() -> None:
    # two pictures of 2 x 1 patches, one of 1 x 1; a patch is 1 x 2 pixels
    two = {
        "pixel_values": torch.arange(8.0).view(1, 1, 1, 8),
        "target_sizes": torch.tensor([[2, 1], [2, 1]]),
        "grids": [[0, 0], [0, 0]],
    }
    other = {
        "pixel_values": torch.tensor([[[[8.0, 9.0]]]]),
        "target_sizes": torch.tensor([[1, 1]]),
        "grids": [[1, 1]],
    }
    first, second = parted(two, 2)
    assert first["pixel_values"].tolist() == [[[[0, 1, 2, 3]]]]
    assert second["pixel_values"].tolist() == [[[[4, 5, 6, 7]]]]
    found = laid([other, second])
    assert found["pixel_values"].tolist() == [[[[8, 9, 4, 5, 6, 7]]]]
    assert found["target_sizes"].tolist() == [[1, 1], [2, 1]]
    assert found["grids"] == [[1, 1], [0, 0]]


def test_numbers_of_patches_count_those_of_the_pictures_in_front() -> None:
    # two pictures of a crop of 3 patches each; the second token of each pools two
    two = {
        "pixel_values": torch.arange(6.0).view(2, 3, 1),
        "image_token_pooling": torch.tensor([[0, -1], [1, 2], [3, -1], [4, 5]]),
    }
    # and one of two crops
    other = {
        "pixel_values": torch.arange(6.0, 12.0).view(2, 3, 1),
        "image_token_pooling": torch.tensor([[0, 5]]),
    }
    first, second = parted(two, 2)
    assert first["image_token_pooling"].tolist() == [[0, -1], [1, 2]]
    assert second["image_token_pooling"].tolist() == [[0, -1], [1, 2]]
    found = laid([other, second, first])
    pooled = found["image_token_pooling"]
    assert pooled.tolist() == [[0, 5], [6, -1], [7, 8], [9, -1], [10, 11]]
    # what they point at are the patches of the right pictures
    flat = found["pixel_values"].flatten()
    assert flat[pooled[2]].tolist() == [4, 5]
    assert flat[pooled[4]].tolist() == [1, 2]
    # and what is kept stays as it was
    assert second["image_token_pooling"].tolist() == [[0, -1], [1, 2]]


def test_rows_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ModelError, match="3 rows of pixel_values of 2 pictures"):
        parted({"pixel_values": torch.zeros(3, 2)}, 2)
