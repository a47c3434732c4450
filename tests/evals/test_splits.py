from __future__ import annotations

from pathlib import Path

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import Sample
from evals.splits import check_disjoint


def sample(number: int, image: str) -> Sample:
    return Sample(str(number), Path(image), "vqa", "what?", ("yes",))


def test_splits_without_anything_in_common_pass() -> None:
    check_disjoint(
        calibration=[sample(1, "a.jpg")],
        search=[sample(2, "b.jpg"), sample(3, "b.jpg")],
        evaluation=[sample(4, "c.jpg")],
    )


def test_a_shared_id_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"calibration and search .* sample.* 7$"):
        check_disjoint(calibration=[sample(7, "a.jpg")], search=[sample(7, "b.jpg")])


def test_a_shared_image_is_refused_even_when_the_questions_differ() -> None:
    with pytest.raises(DataError, match=r"search and evaluation .* image.* a\.jpg"):
        check_disjoint(
            calibration=[],
            search=[sample(1, "a.jpg")],
            evaluation=[sample(2, "a.jpg")],
        )


def test_the_first_and_the_last_split_are_compared_too() -> None:
    with pytest.raises(DataError, match="one and three"):
        check_disjoint(
            one=[sample(1, "a.jpg")], two=[sample(2, "b.jpg")], three=[sample(1, "c")]
        )
