"""Fresh drawings, and the statistics by which systems are compared."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from evals.world.files import COCO, part_scenes
from studies.rivals import drawings
from studies.rivals.intervals import (
    by_picture,
    differences,
    drawn_means,
    holm,
    p_value,
    single,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_fresh_drawing_shares_no_scene_with_the_world() -> None:
    fresh = [
        str(scene)
        for number in drawings.DRAWINGS
        for _, scene in part_scenes("coco", drawings.part(number))
    ]
    world = {str(scene) for part in COCO for _, scene in part_scenes("coco", part)}

    assert len(set(fresh)) == 3_000
    assert not world & set(fresh)


def test_a_drawing_has_two_questions_to_each_picture_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawings, "PICTURES", 5)

    samples = drawings.drawing(tmp_path, 1)

    assert len(samples) == 10
    assert len({sample.id for sample in samples}) == 10
    assert all(one.image == two.image for one, two in list(pairwise(samples))[::2])
    assert len({sample.image.read_bytes() for sample in samples}) == 5
    assert all(len(sample.references) == 10 for sample in samples)


def test_the_same_number_draws_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawings, "PICTURES", 2)

    first, second = (drawings.drawing(tmp_path / name, 2) for name in "ab")
    other = drawings.drawing(tmp_path / "c", 3)

    assert [s.text for s in first] == [s.text for s in second]
    assert [s.references for s in first] != [s.references for s in other]


def test_questions_of_a_picture_are_one_value() -> None:
    values = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.0]])

    assert by_picture(values, 2).tolist() == [[0.5, 1.0], [0.0, 0.25]]


def test_draws_spread_as_the_central_limit_theorem_has_it() -> None:
    rows = np.random.default_rng(1).normal(size=(2, 400))

    drawn = drawn_means(rows, draws=4_000)

    spread = rows.std(axis=1) / 400**0.5
    assert drawn.mean(0) == pytest.approx(rows.mean(1), abs=4 * spread.max() / 60)
    assert drawn.std(0) == pytest.approx(spread, rel=0.1)


def test_rows_see_the_same_draws() -> None:
    row = np.random.default_rng(2).normal(size=300)

    drawn = drawn_means(np.stack([row, row + 1]), draws=100)

    assert np.allclose(drawn[:, 1] - drawn[:, 0], 1)


def test_a_p_value_is_two_sided_and_never_zero() -> None:
    assert p_value(np.array([1.0] * 97 + [-1.0] * 2)) == 2 * 3 / 100
    assert p_value(np.ones(99)) == 2 / 100
    assert p_value(np.zeros(99)) == 1.0


def test_holm_stops_at_the_first_that_fails() -> None:
    # of four: 0.001 < 0.05/4, 0.02 > 0.05/3, so 0.03 fails too though 0.03 > 0.05/2
    adjusted, levels = holm([0.03, 0.001, 0.02, 0.9])

    assert adjusted == pytest.approx([0.06, 0.004, 0.06, 0.9])
    assert levels == pytest.approx([0.05 / 3, 0.05 / 4, 0.05 / 3, 0.05 / 3])


def test_adjusted_p_values_never_fall() -> None:
    # 2 * 0.021 is below 3 * 0.02
    assert holm([0.02, 0.021, 0.9])[0] == pytest.approx([0.06, 0.06, 0.9])


def test_an_adjusted_interval_leaves_out_zero_where_the_test_rejects() -> None:
    rng = np.random.default_rng(3)
    means = np.array([0.0, 2.2, 2.7, 5.0])
    drawn = means + rng.normal(size=(20_000, 4))

    found = differences(means, drawn)

    for each in found:
        assert (each.p < 0.05) == (not each.low <= 0 <= each.high)
    # 2.2 errors are enough alone (p 0.028), not for the third of four (0.05 / 2)
    assert [each.p < 0.05 for each in found] == [False, False, True, True]
    assert single(2.2, drawn[:, 1]).p < 0.05
