"""Every family takes pictures of odd shapes, colour by colour, or names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from allocator.core.errors import DataError
from allocator.core.plugins import load
from allocator.core.ports import Sample
from tests.families.parts import PARTS
from tests.states import TITLES, VARIANTS, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model, State

# another library's
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
ORANGE = (200, 60, 20)
# the first are taken for three channels by who does not know which side they are on
SIZES = ((3, 3), (1, 1), (1, 200), (200, 1), (3, 100))


def shown(folder: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> Sample:
    """A question about a picture of one colour."""
    name = f"{size[0]}x{size[1]}-{colour[0]}"
    Image.new("RGB", size, colour).save(folder / f"{name}.png")
    return Sample(name, folder / f"{name}.png", "vqa", "what colour", ("red",))


def colours(state: State) -> set[float]:
    """Values of pixels, whatever the channel."""
    return {round(value, 4) for value in state["pixel_values"].unique().tolist()}


@pytest.fixture(params=VARIANTS, ids=TITLES)
def model(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    # a package that only counts frames of videos
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", str)
    name, variant = request.param
    if name not in PARTS:
        pytest.skip("tests/families/parts.py has no processor for its tiny models")
    family, folder = load("allocator.families", name), tmp_path / "model"
    made(family, folder, variant)
    PARTS[name](folder, variant)
    return family.load(folder, "cpu")


def test_a_picture_of_any_shape_keeps_its_colour_or_is_named(
    model: Model, tmp_path: Path
) -> None:
    # of an orange square, and of a black one, as which some fill up; others with zeros
    known = {0.0}
    for colour in (ORANGE, (0, 0, 0)):
        known |= colours(model.inputs([shown(tmp_path, (64, 64), colour)]))
    odd = [shown(tmp_path, size, ORANGE) for size in SIZES]
    assert len(model.lengths(odd)) == len(SIZES)
    for sample in odd:
        found = colours(model.inputs([sample]))
        assert found <= known, sample.id
        assert len(found) >= 3, sample.id
    # and a thread is none, whatever the family
    for size in ((1, 500), (500, 1)):
        with pytest.raises(DataError, match=r"500.* cannot be read as a picture: its"):
            model.inputs([odd[0], shown(tmp_path, size, ORANGE)])
