from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from allocator.embedded import HERE
from allocator.families._sharing import PICTURE, images_of, repeated
from allocator.families.blip2 import PLUGIN
from tests.families.processors import two_samples

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample


def several(folder: Path) -> list[Sample]:
    """Two pictures in turn, and the first again as it is stored."""
    first, second = two_samples(folder)
    return [first, second, replace(first, id="2"), replace(first, upright=False)]


def test_equal_pictures_turned_alike_are_one_object(tmp_path: Path) -> None:
    found = images_of(several(tmp_path), shared=True)
    assert found[0] is found[2]
    assert len(set(map(id, found))) == 3


def test_nothing_is_one_object_that_is_not_shared(tmp_path: Path) -> None:
    found = images_of(several(tmp_path), shared=False)
    assert len(set(map(id, found))) == 4


def test_inputs_say_whose_picture_is_whose_only_where_one_is_shared(
    tmp_path: Path,
) -> None:
    model = PLUGIN.load(HERE / "tiny-blip2", "cpu")
    samples = several(tmp_path)
    state = model.inputs(samples)
    assert state[PICTURE].tolist() == [0, 1, 0, 2]
    assert len(state["pixel_values"]) == 3
    assert PICTURE not in model.inputs(samples[:2])


def test_pieces_of_a_picture_stay_together() -> None:
    # two tokens a piece; the first picture has one piece, the second two
    pieces = torch.arange(6.0).reshape(3, 2, 1)
    features = BaseModelOutputWithPooling(pooler_output=pieces)
    found = repeated(features, [0, 1, 1, 0], [2, 4, 4, 2])
    assert found.pooler_output.flatten(1).tolist() == [
        [0, 1],
        *[[2, 3], [4, 5]],
        *[[2, 3], [4, 5]],
        [0, 1],
    ]
    # what was given stays
    assert features.pooler_output is pieces
    several = BaseModelOutputWithPooling(pooler_output=tuple(pieces))
    again = repeated(several, [0, 1, 1, 0], [2, 4, 4, 2]).pooler_output
    assert isinstance(again, tuple)
    assert torch.equal(torch.stack(again), found.pooler_output)


def test_features_of_another_number_than_the_prompts_show_are_an_error() -> None:
    features = BaseModelOutputWithPooling(pooler_output=torch.zeros(2, 3, 1))
    with pytest.raises(ValueError, match="7 image tokens"):
        repeated(features, [0, 0, 1], [4, 4, 3])
